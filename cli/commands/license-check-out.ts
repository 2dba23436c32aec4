/** `latchkey license check-out` and its kin: licenses for nodes without a line to the key server. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_OFFLINE_REQUESTS, MAX_OFFLINE_REQUEST_CHARACTERS } from '#src/base/limits.ts';
import { parseOfflineRequestFile } from '#src/licensing/offline-request.ts';
import type { OfflineBundle } from '#src/wire/admin/offline-bundle.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { idParser } from '../name-arguments.ts';
import { formatTable, outputOf } from '../output.ts';
import { readSmallFile } from '../small-file.ts';
import { formatInstant, parseOfflineLife, parseStartCount } from '../time-arguments.ts';
import { writeWholeFile } from '../whole-file.ts';

const parseLicenseId = idParser('lic', 'latchkey license list');

interface CheckOutOptions {
  readonly output: string;
  readonly expires?: number;
  readonly maxStarts?: number;
}

/** @param license the `license` command, on which these verbs stand */
export function registerCheckOut(license: Command, context: CommandContext): void {
  withAdminOptions(license.command('check-out'))
    .description('make offline bundles for nodes without a line to the key server')
    .argument('<id>', 'of the license', parseLicenseId)
    .argument('<request...>', 'files that `latchkey node request` has written, one for each node')
    .requiredOption('-o, --output <file>', 'where the bundles go, in one file for all nodes')
    .option(
      '--expires <span>',
      'how long the nodes can start with it, from 1h to 365d (default: 30d, or what the license allows)',
      parseOfflineLife,
    )
    .option(
      '--max-starts <count>',
      'how many containers each node can start with it (default: any number)',
      parseStartCount,
    )
    .addHelpText(
      'after',
      '\nExample:\n  latchkey license check-out lic_0191b2f0-... node-1.request --expires 90d -o site.bundle',
    )
    .action(async (id: string, files: string[], options: CheckOutOptions, command: Command) => {
      const requests = await readRequests(files);
      const client = await adminClientOf(context, command);
      // The file first: what is made now takes the place of what the nodes were given before.
      const bundles = await writeWholeFile(options.output, async (output) => {
        const made = await client.checkOut(id, {
          requests,
          lifeMs: options.expires,
          maxStarts: options.maxStarts,
        });
        await output.writeFile(`${JSON.stringify(made.file)}\n`);
        return made.bundles;
      });
      outputOf(context, command).result(bundles, () => checkedOutText(options.output, bundles));
    });
  withAdminOptions(license.command('bundles'))
    .description('list the offline bundles of a license')
    .argument('<id>', 'of the license', parseLicenseId)
    .addHelpText('after', '\nExample:\n  latchkey license bundles lic_0191b2f0-...')
    .action(async (id: string, _options: unknown, command: Command) => {
      const bundles = await (await adminClientOf(context, command)).offlineBundles(id);
      outputOf(context, command).result(bundles, () => bundleTable(bundles));
    });
}

async function readRequests(paths: readonly string[]): Promise<string[]> {
  const maxBytes = 2 * MAX_OFFLINE_REQUESTS * MAX_OFFLINE_REQUEST_CHARACTERS;
  const requests: string[] = [];
  for (const path of paths)
    requests.push(...parseOfflineRequestFile(await readSmallFile(path, maxBytes), path).requests);
  if (requests.length <= MAX_OFFLINE_REQUESTS) return requests;
  throw new LatchkeyError('LIMIT_EXCEEDED', `more than ${MAX_OFFLINE_REQUESTS} nodes in one check-out`, {
    hint: 'give the requests in several runs',
  });
}

function checkedOutText(path: string, bundles: readonly OfflineBundle[]): string {
  return [
    `${path} holds ${bundles.length} offline bundle${bundles.length === 1 ? '' : 's'}:`,
    '',
    bundleTable(bundles),
    'On each of these nodes:',
    '',
    `  latchkey node import ${path}`,
    '',
  ].join('\n');
}

function bundleTable(bundles: readonly OfflineBundle[]): string {
  return formatTable(
    ['NODE', 'NAME', 'NUMBER', 'IMAGES', 'STARTS', 'STATE', 'MADE', 'EXPIRES'],
    bundles.map((bundle) => [
      bundle.nodeId,
      bundle.nodeName,
      String(bundle.sequence),
      String(bundle.leases),
      bundle.maxStarts === null ? 'any' : String(bundle.maxStarts),
      bundle.state,
      formatInstant(bundle.createdAtMs),
      formatInstant(bundle.expiresAtMs),
    ]),
  );
}
