/** `latchkey node request` and `node import`: licenses of a machine without a line to the key server. */
import { type Command, InvalidArgumentError } from 'commander';
import { MAX_OFFLINE_FILE_BYTES, MAX_OFFLINE_IMAGES } from '#src/base/limits.ts';
import { isDigest } from '#src/oci/digest.ts';
import type { CommandContext } from '../context.ts';
import { writeNewFile } from '../new-file.ts';
import { outputOf } from '../output.ts';
import { readSmallFile } from '../small-file.ts';
import { formatInstant } from '../time-arguments.ts';
import { type SocketOptions, withAgent, withSocket } from './agent-socket.ts';

const READABLE = 0o644;

interface RequestOptions extends SocketOptions {
  readonly output: string;
  readonly image?: readonly string[];
}

export function registerNodeOffline(node: Command, context: CommandContext): void {
  withSocket(node.command('request'), context)
    .description('write what this machine asks for, to be carried to the vendor')
    .requiredOption('-o, --output <file>', 'where the request goes')
    .option(
      '--image <digest>',
      'an image that it needs; repeat it for more (default: all of the license)',
      parseImages,
    )
    .addHelpText('after', '\nExample:\n  latchkey node request -o node-1.request')
    .action(async (options: RequestOptions, command: Command) => {
      const { file } = await withAgent(options, (agent) => agent.requestOffline(options.image ?? []));
      // It holds no secret: a public key, a name and digests.
      await writeNewFile(options.output, file, { mode: READABLE, hint: 'choose another name' });
      outputOf(context, command).result({ output: options.output }, () =>
        [
          `${options.output} is to be carried to the vendor, who runs:`,
          '',
          `  latchkey license check-out LICENSE ${options.output} -o BUNDLE`,
          '',
        ].join('\n'),
      );
    });
  withSocket(node.command('import'), context)
    .description('take an offline bundle that the vendor has made for this machine')
    .argument('<file>', 'that `latchkey license check-out` has written')
    .addHelpText('after', '\nExample:\n  latchkey node import site.bundle')
    .action(async (path: string, options: SocketOptions, command: Command) => {
      const { parseOfflineBundleFile } = await import('#src/licensing/offline-bundle.ts');
      const file = await readSmallFile(path, MAX_OFFLINE_FILE_BYTES);
      // The agent, which looks again, does not know its name.
      parseOfflineBundleFile(file, path);
      const answer = await withAgent(options, (agent) => agent.importOffline(file));
      outputOf(context, command).result(answer, () => {
        const {
          licenseId = '',
          productCode = '',
          sequence = 0,
          leases = 0,
          expiresAtMs = 0,
          maxStarts = 0,
        } = answer.bundle ?? {};
        return [
          `imported: bundle number ${sequence} of license ${licenseId} for product ${productCode}, node ${answer.nodeId}`,
          `${leases} image${leases === 1 ? '' : 's'} can start without the key server until ${formatInstant(expiresAtMs)}`,
          ...(maxStarts === 0
            ? []
            : [`no more than ${maxStarts} starts of containers are allowed until then`]),
        ].join('\n');
      });
    });
}

function parseImages(text: string, before: readonly string[] = []): readonly string[] {
  if (!isDigest(text))
    throw new InvalidArgumentError('Give the digest of a manifest: sha256: and 64 digits.');
  if (before.length >= MAX_OFFLINE_IMAGES)
    throw new InvalidArgumentError(`Give at most ${MAX_OFFLINE_IMAGES} of them, or none for all.`);
  return [...before, text];
}
