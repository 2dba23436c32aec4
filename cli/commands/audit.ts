/** `latchkey audit`: read, keep and verify the audit log. */
import { readFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { AUDIT_OUTCOMES, type AuditOutcome } from '#src/wire/admin/audit.ts';
import { parseVerifierKey } from '#src/crypto/signed-note.ts';
import type { AuditExport } from '#src/wire/admin/audit.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import { type KeptCheckpoint, againstCheckpoints, readCheckpoints } from '../audit-checkpoints.ts';
import { writeAuditExport } from '../audit-export.ts';
import { readAuditFile, verifyAuditLog } from '../audit-log.ts';
import type { CommandContext } from '../context.ts';
import { formatTable, outputOf } from '../output.ts';
import { parseLimit } from '../list-options.ts';
import { parseName } from '../name-arguments.ts';
import { formatInstant, parseInstant } from '../time-arguments.ts';

const DEFAULT_LISTED = 50;

interface AuditListOptions {
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
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey audit list\n  latchkey audit list --outcome denied --from 2026-11-01 --all',
    )
    .action(async (options: AuditListOptions, command: Command) => {
      const client = await adminClientOf(context, command);
      const { all, target, actor, action, outcome, from, until } = options;
      const limit = options.limit ?? (all === true ? undefined : DEFAULT_LISTED);
      const range = { order: 'desc', limit, fromMs: from, untilMs: until } as const;
      const newest = await client.listAuditEvents({ ...range, target, actor, action, outcome });
      const events = newest.reverse();
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
    .addHelpText('after', '\nExample:\n  latchkey audit key > audit.key')
    .action(async (_options: unknown, command: Command) => {
      const { verifierKey } = await (await adminClientOf(context, command)).auditCheckpoint();
      outputOf(context, command).result({ verifierKey }, () => verifierKey);
    });
  withAdminOptions(audit.command('exports'))
    .description('list where the audit log is copied to, and how far each copy is')
    .addHelpText('after', '\nExample:\n  latchkey audit exports')
    .action(async (_options: unknown, command: Command) => {
      const exports = await (await adminClientOf(context, command)).auditExports();
      outputOf(context, command).result(exports, () => exportTable(exports));
    });
  withAdminOptions(audit.command('verify'))
    .description('check that no event was changed, removed or moved')
    .argument('[file]', 'an export (default: the log of the key server)')
    .option('--checkpoints <path>', 'a checkpoint that you kept, or a directory of *.checkpoint')
    .option('--key <file>', 'the key that verifies them, as `latchkey audit key` printed it')
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey audit verify\n  latchkey audit verify audit.jsonl --checkpoints kept/ --key audit.key',
    )
    .action(async (path: string | undefined, options: VerifyOptions, command: Command) => {
      const checkpoints = await keptCheckpoints(options);
      const events =
        path === undefined ? (await adminClientOf(context, command)).auditEvents() : readAuditFile(path);
      const head = await verifyAuditLog(againstCheckpoints(events, checkpoints));
      const result = {
        verified: true,
        events: head.sequence,
        hash: head.hash,
        checkpoints: checkpoints.length,
      };
      outputOf(context, command).result(
        result,
        () =>
          `the audit log verifies: ${head.sequence} events, last hash ${head.hash}` +
          (checkpoints.length === 0 ? '' : `, and holds ${checkpoints.length} checkpoint(s)`),
      );
    });
}

interface VerifyOptions {
  readonly checkpoints?: string;
  readonly key?: string;
}

async function keptCheckpoints({ checkpoints, key }: VerifyOptions): Promise<KeptCheckpoint[]> {
  if (checkpoints === undefined && key === undefined) return [];
  if (checkpoints === undefined || key === undefined) {
    throw new LatchkeyError('USAGE_INVALID', '--checkpoints and --key belong together', {
      hint: 'keep the key with the checkpoints: latchkey audit key > audit.key',
    });
  }
  const text = await readFile(key, 'utf8').catch((error: unknown) => {
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no key file ${key}`, {
      hint: 'write it with `latchkey audit key > FILE`',
      cause: error,
    });
  });
  return readCheckpoints(checkpoints, parseVerifierKey(text));
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
