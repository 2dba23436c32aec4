/** `latchkey audit verify`: check the audit log, alone and against what others have kept. */
import type { Command } from 'commander';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { MAX_NOTE_BYTES, type NoteVerifier, parseVerifierKey } from '#src/crypto/signed-note.ts';
import { adminClientOf, withAdminOptions } from '../admin-options.ts';
import { type KeptCheckpoint, againstCheckpoints, readCheckpoints } from '../audit-checkpoints.ts';
import { type NumberedLine, readAuditFile, readExportLines, verifyAuditLog } from '../audit-log.ts';
import { type ProofHeader, proofHeaderSchema, verifyProofs } from '../audit-proofs.ts';
import type { CommandContext } from '../context.ts';
import { type Output, escapeLine, outputOf } from '../output.ts';

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
        '  latchkey audit verify one.jsonl --key audit.key --checkpoints kept/   (an export with proofs)',
      ].join('\n'),
    )
    .action(async (path: string | undefined, options: VerifyOptions, command: Command) => {
      const header = path === undefined ? null : await readProofHeader(path);
      if (path !== undefined && header !== null) {
        await verifyProvenExport(path, header, options, outputOf(context, command));
        return;
      }
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

async function verifyProvenExport(
  path: string,
  header: ProofHeader,
  options: VerifyOptions,
  output: Output,
): Promise<void> {
  if (options.receipts !== undefined || options.receiptKey !== undefined) {
    throw new LatchkeyError('USAGE_INVALID', 'receipts are compared with a whole log', {
      hint: 'write it with `latchkey audit export FILE`, without --with-proofs',
    });
  }
  if (options.key === undefined) {
    throw new LatchkeyError('USAGE_INVALID', `${path} is an export with proofs, which takes --key`, {
      hint: 'its checkpoint is worth what its signature is: give the key that you got with `latchkey audit key > FILE`',
    });
  }
  const verifier = await readVerifier(options.key);
  const kept = options.checkpoints === undefined ? [] : await readCheckpoints(options.checkpoints, verifier);
  const { events, size, filter } = await verifyProofs(header, linesAfterHeader(path), verifier, kept);
  const chosen = Object.entries(filter).map(([name, value]) => ` of ${name} ${escapeLine(value)}`);
  output.result(
    { verified: true, events, logEvents: size, filter, checkpoints: kept.length },
    () =>
      `the export verifies: ${events} of the ${size} events under its checkpoint${chosen.join('')}` +
      (kept.length === 0 ? '' : `, and goes on from ${kept.length} checkpoint(s)`) +
      // A proof says that an event is there, not that others are not.
      (chosen.length === 0 ? '' : '; that there are no more of them shows a whole export alone'),
  );
}

async function* linesAfterHeader(path: string): AsyncGenerator<NumberedLine> {
  let isHeader = true;
  for await (const line of readExportLines(path)) {
    if (!isHeader) yield line;
    isHeader = false;
  }
}

/** The first line of an export with proofs; null for another one. */
async function readProofHeader(path: string): Promise<ProofHeader | null> {
  for await (const { value } of readExportLines(path)) {
    const parsed = proofHeaderSchema.safeParse(value);
    return parsed.success ? parsed.data : null;
  }
  return null;
}

async function keptCheckpoints(options: VerifyOptions): Promise<KeptCheckpoint[]> {
  const files = together(options, 'checkpoints', 'key');
  if (files === null) return [];
  const [checkpoints, key] = files;
  return readCheckpoints(checkpoints, await readVerifier(key));
}

async function readVerifier(path: string): Promise<NoteVerifier> {
  try {
    // A file that is larger is none either.
    const bytes = await readBoundedFile(path, MAX_NOTE_BYTES);
    return parseVerifierKey((bytes ?? '').toString(), path);
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR', 'EISDIR'].includes(systemErrorCode(error) ?? '')) throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no key file ${path}`, {
      hint: 'write it with `latchkey audit key > FILE`',
      cause: error,
    });
  }
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
