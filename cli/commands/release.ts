/** `latchkey release`: what has been encrypted and registered. */
import type { Command } from 'commander';
import type { Release } from '#src/wire/admin-api.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { formatTable, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

export function registerRelease(program: Command, context: CommandContext): void {
  const release = program.command('release').description('encrypted images that the key server knows');
  withAdminOptions(release.command('list'))
    .description('list releases; `latchkey encrypt` registers them')
    .addHelpText('after', '\nExample:\n  latchkey release list')
    .action(async (_options: unknown, command: Command) => {
      const releases = await (await adminClientOf(context, command)).releases();
      outputOf(context, command).result(releases, () => releaseTable(releases));
    });
}

function releaseTable(releases: readonly Release[]): string {
  return formatTable(
    ['PRODUCT', 'REPOSITORY', 'VERSION', 'STATE', 'REGISTERED', 'IMAGE KEY'],
    releases.map((release) => [
      release.productCode,
      release.repository,
      release.version,
      release.state,
      formatInstant(release.createdAtMs),
      release.imageKeyId,
    ]),
  );
}
