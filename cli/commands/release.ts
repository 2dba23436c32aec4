/** `latchkey release`: what has been encrypted and registered. */
import { type Command, Option } from 'commander';
import type { Release } from '#src/wire/admin/release.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { LOCATION_HELP, openImage, repositoryName } from '../image-location.ts';
import { type ListOptions, listFilter, withListOptions } from '../list-options.ts';
import { idParser, parseName, parseProductCode } from '../name-arguments.ts';
import { requirePinned } from '../pinned-image.ts';
import { formatFields, formatTable, outputOf } from '../output.ts';
import { withEntitlementOption } from '../required-entitlements.ts';
import { formatInstant } from '../time-arguments.ts';

const parseReleaseId = idParser('rel', 'latchkey release list');

interface ReleaseListOptions extends ListOptions {
  readonly product?: string;
  readonly state?: Release['state'];
  readonly repository?: string;
}

export function registerRelease(program: Command, context: CommandContext): void {
  const release = program.command('release').description('encrypted images that the key server knows');
  withListOptions(withAdminOptions(release.command('list')))
    .description('list releases; `latchkey encrypt` registers them')
    .option('--product <code>', 'of this product', parseProductCode)
    .addOption(new Option('--state <state>', 'that are in this state').choices(['PUBLISHED', 'YANKED']))
    .option('--repository <name>', 'in this repository', parseName)
    .addHelpText('after', '\nExample:\n  latchkey release list --product acme-web --newest-first --limit 10')
    .action(async (options: ReleaseListOptions, command: Command) => {
      const { product, state, repository } = options;
      const client = await adminClientOf(context, command);
      const releases = await client.releases({ ...listFilter(options), product, state, repository });
      outputOf(context, command).result(releases, () => releaseTable(releases));
    });
  registerRegister(release, context);
  withAdminOptions(release.command('yank'))
    .description('withdraw a release: nodes get no more leases for its images')
    .argument('<id>', 'of the release', parseReleaseId)
    .addHelpText(
      'after',
      `
A node that holds a lease starts the image until the lease ends. It cannot be undone; encrypt again to release anew.

Example:
  latchkey release yank rel_0191b2f0-...`,
    )
    .action(async (id: string, _options: unknown, command: Command) => {
      const yanked = await (await adminClientOf(context, command)).yankRelease(id);
      outputOf(context, command).result(yanked, () => `release ${yanked.id} is ${yanked.state}`);
    });
}

interface RegisterOptions {
  readonly imageKey: string;
  readonly keep?: boolean;
  readonly requireEntitlement?: readonly string[];
  readonly allowHttp?: boolean;
}

function registerRegister(release: Command, context: CommandContext): void {
  withEntitlementOption(withAdminOptions(release.command('register')))
    .description('register an image that skopeo, buildah or podman has encrypted with our image key')
    .argument('<image>', LOCATION_HELP)
    .requiredOption('--image-key <file>', 'its image key, of `latchkey image-key create`; removed afterwards')
    .option('--keep', 'keep the file: it opens the image without a license')
    .option('--allow-http', 'plain HTTP also to registries on other hosts')
    .addHelpText(
      'after',
      `
Other tools do not salt layers: a node that has the same layers from a plain image runs them without a license.
\`latchkey encrypt\` salts them.

An image in a registry is named by the digest that the other tool has pushed, for the key server vouches for all of it:

Example:
  skopeo copy --digestfile web.digest --encryption-key provider:latchkey:image-key=web.key \\
    docker://registry.acme.example/web:2.0-plain docker://registry.acme.example/web:2.0
  latchkey release register --image-key web.key docker://registry.acme.example/web:2.0@$(cat web.digest)`,
    )
    .action(async (image: string, options: RegisterOptions, command: Command) => {
      const { registerFromFile } = await import('../release-registration.ts');
      const opened = await openImage(context, image, options.allowHttp);
      requirePinned(opened, image);
      const { store, reference, tag, location } = opened;
      const isKept = options.keep === true;
      const isArchive = location.kind === 'oci-archive' || location.kind === 'docker-archive';
      const registered = await registerFromFile(await adminClientOf(context, command), {
        store,
        destination: isArchive ? undefined : store,
        reference,
        version: tag ?? reference,
        repository: repositoryName(location),
        imageKeyPath: options.imageKey,
        entitlementCodes: options.requireEntitlement ?? [],
        isKept,
        signal: context.signal,
      });
      const output = outputOf(context, command);
      if (isArchive) output.note('note: an archive is only read: the signed statement is not attached to it');
      output.result(registered, () =>
        formatFields([
          ['registered', `${registered.repository} ${registered.version} for ${registered.productCode}`],
          ['image key', registered.imageKeyId],
          ['images', registered.imageDigests.join(', ')],
          ['key file', `${options.imageKey} ${isKept ? 'kept: it opens the image' : 'removed'}`],
        ]),
      );
    });
}

function releaseTable(releases: readonly Release[]): string {
  return formatTable(
    ['ID', 'PRODUCT', 'REPOSITORY', 'VERSION', 'STATE', 'REGISTERED', 'REQUIRES', 'IMAGE KEY'],
    releases.map((release) => [
      release.id,
      release.productCode,
      release.repository,
      release.version,
      release.state,
      formatInstant(release.createdAtMs),
      release.entitlementCodes.join(' ') || '-',
      release.imageKeyId,
    ]),
  );
}
