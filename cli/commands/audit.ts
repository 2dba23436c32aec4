/** `latchkey audit`: read and keep the audit log. */
import { type Command, Option } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { AUDIT_OUTCOMES, type AuditOutcome } from '#src/wire/admin/audit.ts';
import type { AuditExport } from '#src/wire/admin/audit.ts';
import { adminClientOf, concealmentClientOf, withAdminOptions } from '../admin-options.ts';
import type { CommandContext } from '../context.ts';
import { formatTable, outputOf } from '../output.ts';
import { parseLimit } from '../list-options.ts';
import { parseConcealedText, parseName } from '../name-arguments.ts';
import { formatInstant, parseInstant } from '../time-arguments.ts';
import { registerAuditExport } from './audit-export.ts';
import { registerAuditVerify } from './audit-verify.ts';

const DEFAULT_LISTED = 50;

interface AuditListOptions {
  readonly text?: string;
  readonly all?: boolean;
  readonly limit?: number;
  readonly target?: string;
  readonly actor?: string;
  readonly action?: string;
  readonly outcome?: AuditOutcome;
  readonly from?: number;
  readonly until?: number;
}

export function registerAudit(program: Command, context: CommandContext): void {
  const audit = program.command('audit').description('the audit log of the key server');
  withAdminOptions(audit.command('list'))
    .description('list the latest events')
    .option('--all', `all events instead of the latest ${DEFAULT_LISTED}`)
    .option('--limit <count>', 'the latest of these', parseLimit)
    .option('--target <id>', 'only what happened to this object: its history', parseName)
    .option('--actor <who>', 'only what this one did: token:ID, node:ID, enrollment or system', parseName)
    .option('--action <name>', 'only this action, such as license.revoke', parseName)
    .addOption(new Option('--outcome <outcome>', 'only events that ended so').choices(AUDIT_OUTCOMES))
    .option('--from <time>', 'at this time or later', parseInstant)
    .option('--until <time>', 'before this time', parseInstant)
    .option(
      '--text <text>',
      'those with this external id, host name or reason, which the log conceals',
      parseConcealedText,
    )
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey audit list\n  latchkey audit list --outcome denied --from 2026-11-01 --all\n  latchkey audit list --text crm-4711',
    )
    .action(async (options: AuditListOptions, command: Command) => {
      const { all, target, actor, action, outcome, from, until } = options;
      if (from !== undefined && until !== undefined && from >= until) {
        throw new LatchkeyError(
          'USAGE_INVALID',
          '--from is not before --until, so nothing can be between them',
        );
      }
      const client = await adminClientOf(context, command);
      const limit = options.limit ?? (all === true ? undefined : DEFAULT_LISTED);
      const concealed =
        options.text === undefined
          ? null
          : await (await concealmentClientOf(context, command)).concealedText(options.text);
      // The key server cannot look into what it has written: all are read, and those with the text are kept.
      const asked = concealed === null ? limit : undefined;
      const range = { order: 'desc', limit: asked, fromMs: from, untilMs: until } as const;
      const newest = await client.listAuditEvents({ ...range, target, actor, action, outcome });
      const found = concealed === null ? newest : newest.filter((event) => holds(event, concealed));
      const events = found.slice(0, limit).reverse();
      outputOf(context, command).result(events, () => eventTable(events));
    });
  registerAuditExport(audit, context);
  withAdminOptions(audit.command('checkpoint'))
    .description('print the newest signed checkpoint, to keep where admins of the key server cannot write')
    .addHelpText('after', '\nExample:\n  latchkey audit checkpoint > 2026-11-30.checkpoint')
    .action(async (_options: unknown, command: Command) => {
      const client = await adminClientOf(context, command);
      const answer = await client.auditCheckpoint();
      outputOf(context, command).result(answer, () => answer.checkpoint.trimEnd());
    });
  withAdminOptions(audit.command('key'))
    .description('print the key that verifies checkpoints')
    .option('--receipts', 'the one that verifies leases, which are receipts, as a JSON Web Key')
    .addHelpText('after', '\nExample:\n  latchkey audit key > audit.key')
    .action(async (options: { receipts?: true }, command: Command) => {
      const client = await adminClientOf(context, command);
      if (options.receipts === true) {
        const { leaseVerificationJwk } = await client.organization();
        outputOf(context, command).result(leaseVerificationJwk, () => JSON.stringify(leaseVerificationJwk));
        return;
      }
      const { verifierKey } = await client.auditCheckpoint();
      outputOf(context, command).result({ verifierKey }, () => verifierKey);
    });
  withAdminOptions(audit.command('exports'))
    .description('list where the audit log is copied to, and how far each copy is')
    .addHelpText('after', '\nExample:\n  latchkey audit exports')
    .action(async (_options: unknown, command: Command) => {
      const exports = await (await adminClientOf(context, command)).auditExports();
      outputOf(context, command).result(exports, () => exportTable(exports));
    });
  withAdminOptions(audit.command('shred'))
    .description('destroy the key of what the log conceals, so that nobody finds it by its text again')
    .option('--yes', 'it cannot be taken back')
    .addHelpText('after', '\nExample:\n  latchkey audit shred --yes')
    .action(async (options: { yes?: true }, command: Command) => {
      if (options.yes !== true) {
        throw new LatchkeyError('USAGE_INVALID', 'what is concealed until now can never be found again', {
          hint: 'if that is meant, run it with --yes',
        });
      }
      await (await concealmentClientOf(context, command)).shred();
      outputOf(context, command).result(
        { shredded: true },
        () => 'what the audit log conceals until now can be found by nobody; a new key is in use',
      );
    });
  registerAuditVerify(audit, context);
}

function holds({ detail }: AuditEvent, concealed: string): boolean {
  return typeof detail === 'object' && detail !== null && Object.values(detail).includes(concealed);
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

function exportTable(exports: readonly AuditExport[]): string {
  return formatTable(
    ['NAME', 'BEHIND', 'WAITING SINCE', 'LAST DELIVERED', 'FAILURE'],
    exports.map((each) => [
      each.name,
      String(each.behind),
      formatInstant(each.waitingSinceMs),
      formatInstant(each.deliveredAtMs),
      each.failure ?? '',
    ]),
  );
}
