/** `latchkey image-key`: image keys for layers that skopeo, buildah or podman encrypt, and the end of any image key. */
import { type Command, InvalidArgumentError } from 'commander';
import { DEFAULT_DESTRUCTION_DAYS, MAX_DESTRUCTION_DAYS, MIN_DESTRUCTION_DAYS } from '#src/base/limits.ts';
import type { ImageKey } from '#src/wire/admin/image-key.ts';
import { type AdminOptions, adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { formatFields, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

interface CreateOptions extends AdminOptions {
  readonly product: string;
  readonly out: string;
}

const HELP = `
The key opens every layer encrypted with it: keep the file out of images, caches and artifacts.

Example, with {"key-providers": {"latchkey": {"cmd": {"path": "latchkey", "args": ["keyprovider"]}}}}
in the file that OCICRYPT_KEYPROVIDER_CONFIG names:
  latchkey image-key create --product acme-web --out web.key
  skopeo copy --digestfile web.digest --encryption-key provider:latchkey:image-key=web.key \\
    docker://registry.acme.example/web:2.0-plain docker://registry.acme.example/web:2.0
  latchkey release register --image-key web.key docker://registry.acme.example/web:2.0@$(cat web.digest)`;

export function registerImageKey(program: Command, context: CommandContext): void {
  const imageKey = program
    .command('image-key')
    .description('image keys: for encryption by other ocicrypt tools, and their destruction');
  withAdminOptions(imageKey.command('create'))
    .description('make the image key of one release, for skopeo, buildah or podman to encrypt with')
    .requiredOption('--product <code>', 'the product that the release is of')
    .requiredOption('--out <file>', 'new file for the key, readable by its owner alone')
    .addHelpText('after', HELP)
    .action(async (options: CreateOptions, command: Command) => {
      const [client, { createAdminRegistrar }, { generateImageKey }, { writeImageKeyFile }] =
        await Promise.all([
          adminClientOf(context, command),
          import('../admin-registrar.ts'),
          import('#src/image/registrar.ts'),
          import('../image-key-file.ts'),
        ]);
      const { product: productCode, out } = options;
      const key = await generateImageKey(await createAdminRegistrar(client, productCode).prepare());
      await writeImageKeyFile(out, { ...key, productCode });
      outputOf(context, command).result({ imageKeyId: key.imageKeyId, productCode, file: out }, () =>
        formatFields([
          ['image key', key.imageKeyId],
          ['file', `${out} (opens the image; 'latchkey release register' removes it)`],
          ['encrypt with', `--encryption-key provider:latchkey:image-key=${out}`],
        ]),
      );
    });
  registerDestruction(imageKey, context);
}

function registerDestruction(imageKey: Command, context: CommandContext): void {
  withAdminOptions(imageKey.command('show'))
    .description('show the state of an image key; `latchkey release list` has their ids')
    .argument('<id>', 'of the image key', parseImageKeyId)
    .addHelpText('after', '\nExample:\n  latchkey image-key show ik_0191b2f0-...')
    .action(async (id: string, _options: unknown, command: Command) => {
      const shown = await (await adminClientOf(context, command)).imageKey(id);
      outputOf(context, command).result(shown, () => describe(shown));
    });
  withAdminOptions(imageKey.command('destroy'))
    .description('stop an image key at once, and destroy it in some days')
    .argument('<id>', 'of the image key', parseImageKeyId)
    .option(
      '--days <days>',
      `from now, ${MIN_DESTRUCTION_DAYS} to ${MAX_DESTRUCTION_DAYS}`,
      parseDays,
      DEFAULT_DESTRUCTION_DAYS,
    )
    .addHelpText(
      'after',
      `
No node gets the key any more; one that holds a lease starts the image until the lease ends. Until the day comes,
\`latchkey image-key keep\` takes it back. Then nobody can open the image, except with a backup of the key server from before.

Example:
  latchkey image-key destroy ik_0191b2f0-... --days 30`,
    )
    .action(async (id: string, { days }: { days: number }, command: Command) => {
      const client = await adminClientOf(context, command);
      const scheduled = await client.scheduleDestruction(id, { days });
      outputOf(context, command).result(scheduled, () => describe(scheduled));
    });
  withAdminOptions(imageKey.command('keep'))
    .description('take back the destruction of an image key')
    .argument('<id>', 'of the image key', parseImageKeyId)
    .addHelpText('after', '\nExample:\n  latchkey image-key keep ik_0191b2f0-...')
    .action(async (id: string, _options: unknown, command: Command) => {
      const kept = await (await adminClientOf(context, command)).cancelDestruction(id);
      outputOf(context, command).result(kept, () => describe(kept));
    });
}

function describe({ id, productCode, state, destroyAtMs }: ImageKey): string {
  return formatFields([
    ['image key', id],
    ['product', productCode],
    ['state', state],
    [
      state === 'DESTROYED' ? 'destroyed' : 'destroyed on',
      destroyAtMs === null ? undefined : formatInstant(destroyAtMs),
    ],
  ]);
}

function parseImageKeyId(text: string): string {
  if (/^[A-Za-z0-9._:-]{1,128}$/.test(text)) return text;
  throw new InvalidArgumentError('Give the id of an image key, as `latchkey release list` shows it.');
}

function parseDays(text: string): number {
  const days = /^[1-9]\d?$/.test(text) ? Number(text) : Number.NaN;
  if (days >= MIN_DESTRUCTION_DAYS && days <= MAX_DESTRUCTION_DAYS) return days;
  throw new InvalidArgumentError(
    `Give a number of days from ${MIN_DESTRUCTION_DAYS} to ${MAX_DESTRUCTION_DAYS}.`,
  );
}
