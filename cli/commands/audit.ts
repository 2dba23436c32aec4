/** `latchkey audit`: read, keep and verify the audit log. */
import type { Command } from 'commander';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import { writeAuditExport } from '../audit-export.ts';
import { readAuditFile, verifyAuditLog } from '../audit-log.ts';
import type { CommandContext } from '../context.ts';
import { formatTable, outputOf } from '../output.ts';
import { formatInstant } from '../time-arguments.ts';

const DEFAULT_LISTED = 50;

export function registerAudit(program: Command, context: CommandContext): void {
  const audit = program.command('audit').description('the audit log of the key server');
  withAdminOptions(audit.command('list'))
    .description('list the latest events')
    .option('--all', `all events instead of the latest ${DEFAULT_LISTED}`)
    .addHelpText('after', '\nExample:\n  latchkey audit list')
    .action(async (options: { all?: boolean }, command: Command) => {
      const client = await adminClientOf(context, command);
      const limit = options.all === true ? Number.POSITIVE_INFINITY : DEFAULT_LISTED;
      const events: AuditEvent[] = [];
      for await (const event of client.auditEvents()) {
        events.push(event);
        if (events.length > limit) events.shift();
      }
      outputOf(context, command).result(events, () => eventTable(events));
    });
  withAdminOptions(audit.command('export'))
    .description('write all events to a new file, one JSON document a line')
    .argument('<file>')
    .addHelpText('after', '\nExample:\n  latchkey audit export audit.jsonl')
    .action(async (path: string, _options: unknown, command: Command) => {
      const client = await adminClientOf(context, command);
      const events = await writeAuditExport(path, client.auditEvents());
      outputOf(context, command).result({ file: path, events }, () => `${events} events written to ${path}`);
    });
  withAdminOptions(audit.command('verify'))
    .description('check that no event was changed, removed or moved')
    .argument('[file]', 'an export (default: the log of the key server)')
    .addHelpText('after', '\nExamples:\n  latchkey audit verify\n  latchkey audit verify audit.jsonl')
    .action(async (path: string | undefined, _options: unknown, command: Command) => {
      const events =
        path === undefined ? (await adminClientOf(context, command)).auditEvents() : readAuditFile(path);
      const head = await verifyAuditLog(events);
      outputOf(context, command).result(
        { verified: true, events: head.sequence, hash: head.hash },
        () => `the audit log verifies: ${head.sequence} events, last hash ${head.hash}`,
      );
    });
}

function eventTable(events: readonly AuditEvent[]): string {
  return formatTable(
    ['SEQ', 'TIME', 'ACTOR', 'ACTION', 'OUTCOME', 'TARGET'],
    events.map((event) => [
      String(event.sequence),
      formatInstant(event.timeMs),
      event.actor,
      event.action,
      event.code ?? event.outcome,
      event.target,
    ]),
  );
}
