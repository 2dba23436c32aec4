/** `latchkey audit verify`: check the audit log, alone and against what others have kept. */
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseVerifierKey } from '#src/crypto/signed-note.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import { type KeptCheckpoint, againstCheckpoints, readCheckpoints } from '../audit-checkpoints.ts';
import { readAuditFile, verifyAuditLog } from '../audit-log.ts';
import type { CommandContext } from '../context.ts';
import { outputOf } from '../output.ts';

interface VerifyOptions {
  readonly checkpoints?: string;
  readonly key?: string;
  readonly receipts?: string;
  readonly receiptKey?: string;
}

/** @param audit the `audit` command, on which it stands */
export function registerAuditVerify(audit: Command, context: CommandContext): void {
  withAdminOptions(audit.command('verify'))
    .description('check that no event was changed, removed or moved')
    .argument('[file]', 'an export (default: the log of the key server)')
    .option('--checkpoints <path>', 'a checkpoint that you kept, or a directory of *.checkpoint')
    .option('--key <file>', 'the key that verifies them, as `latchkey audit key` printed it')
    .option('--receipts <file>', 'leases of a node, as `latchkey node status --json` printed them')
    .option(
      '--receipt-key <file>',
      'the key that verifies them, as `latchkey audit key --receipts` printed it',
    )
    .addHelpText(
      'after',
      [
        '',
        'Examples:',
        '  latchkey audit verify',
        '  latchkey audit verify audit.jsonl --checkpoints kept/ --key audit.key',
        '  latchkey audit verify audit.jsonl --receipts node-1.json --receipt-key receipts.key',
      ].join('\n'),
    )
    .action(async (path: string | undefined, options: VerifyOptions, command: Command) => {
      const checkpoints = await keptCheckpoints(options);
      // They bring a library for tokens along.
      const { againstReceipts, readReceiptKeys, readReceipts } = await import('../audit-receipts.ts');
      const receiptFiles = together(options, 'receipts', 'receiptKey');
      const receipts =
        receiptFiles === null
          ? []
          : await readReceipts(receiptFiles[0], await readReceiptKeys(receiptFiles[1]));
      const events =
        path === undefined ? (await adminClientOf(context, command)).auditEvents() : readAuditFile(path);
      const head = await verifyAuditLog(againstReceipts(againstCheckpoints(events, checkpoints), receipts));
      const result = {
        verified: true,
        events: head.sequence,
        hash: head.hash,
        checkpoints: checkpoints.length,
        receipts: receipts.length,
      };
      const held = [
        ...(checkpoints.length === 0 ? [] : [`${checkpoints.length} checkpoint(s)`]),
        ...(receipts.length === 0 ? [] : [`${receipts.length} receipt(s)`]),
      ].join(' and ');
      outputOf(context, command).result(
        result,
        () =>
          `the audit log verifies: ${head.sequence} events, last hash ${head.hash}` +
          (held === '' ? '' : `, and holds ${held}`),
      );
    });
}

async function keptCheckpoints(options: VerifyOptions): Promise<KeptCheckpoint[]> {
  const files = together(options, 'checkpoints', 'key');
  if (files === null) return [];
  const [checkpoints, key] = files;
  const text = await readFile(key, 'utf8').catch((error: unknown) => {
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no key file ${key}`, {
      hint: 'write it with `latchkey audit key > FILE`',
      cause: error,
    });
  });
  return readCheckpoints(checkpoints, parseVerifierKey(text));
}

/** What to compare with and the key that verifies it; null when neither is given. */
function together(
  options: VerifyOptions,
  kept: 'checkpoints' | 'receipts',
  key: 'key' | 'receiptKey',
): readonly [kept: string, key: string] | null {
  const [keptFile, keyFile] = [options[kept], options[key]];
  if (keptFile === undefined && keyFile === undefined) return null;
  if (keptFile !== undefined && keyFile !== undefined) return [keptFile, keyFile];
  const [keyOption, print] =
    key === 'key' ? ['--key', 'audit key'] : ['--receipt-key', 'audit key --receipts'];
  throw new LatchkeyError('USAGE_INVALID', `--${kept} and ${keyOption} belong together`, {
    hint: `keep the key with the ${kept}: latchkey ${print} > FILE`,
  });
}
