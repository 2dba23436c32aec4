/** `latchkey license leases`: which starts were allowed, where and until when. */
import type { Command } from 'commander';
import type { Lease } from '#src/wire/admin/lease.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { type ListOptions, listFilter, withListOptions } from '../list-options.ts';
import { idParser } from '../name-arguments.ts';
import { formatTable, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

interface LeaseListOptions extends ListOptions {
  readonly license?: string;
  readonly node?: string;
}

export function registerLicenseLeases(license: Command, context: CommandContext): void {
  withListOptions(withAdminOptions(license.command('leases')))
    .description('list leases: which starts were allowed, where and until when')
    .option('--license <id>', 'of this license', idParser('lic', 'latchkey license list'))
    .option('--node <id>', 'of this node', idParser('node', 'latchkey node list'))
    .addHelpText(
      'after',
      '\nExample:\n  latchkey license leases --license lic_0191b2f0-... --newest-first --limit 20',
    )
    .action(async (options: LeaseListOptions, command: Command) => {
      const client = await adminClientOf(context, command);
      const { license: licenseId, node } = options;
      const leases = await client.leases({ ...listFilter(options), license: licenseId, node });
      outputOf(context, command).result(leases, () => leaseTable(leases));
    });
}

function leaseTable(leases: readonly Lease[]): string {
  return formatTable(
    ['ID', 'STATE', 'LICENSE', 'NODE', 'ISSUED', 'EXPIRES', 'IMAGE'],
    leases.map((lease) => [
      lease.id,
      lease.state,
      lease.licenseId,
      lease.nodeId,
      formatInstant(lease.issuedAtMs),
      formatInstant(lease.expiresAtMs),
      lease.imageDigest,
    ]),
  );
}
