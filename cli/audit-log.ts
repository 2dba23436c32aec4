/** The audit log from a key server or from an exported file, and the check of its chain. */
import { open } from 'node:fs/promises';
import { LatchkeyError, systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import {
  AUDIT_START,
  type AuditEvent,
  type AuditHead,
  auditEventSchema,
  checkAuditEvent,
} from '#src/crypto/audit-chain.ts';

/** A line of an export, as JSON. */
export interface NumberedLine {
  readonly value: unknown;
  /** `audit.jsonl, line 3,` for messages. */
  readonly where: string;
}

/**
 * Reads an export: one event as JSON a line.
 * @throws LatchkeyError INPUT_MALFORMED naming the line, STATE_NOT_FOUND; system errors of the file
 */
export async function* readAuditFile(path: string): AsyncGenerator<AuditEvent> {
  for await (const { value, where } of readExportLines(path)) {
    const parsed = auditEventSchema.safeParse(value);
    if (!parsed.success) {
      throw new LatchkeyError('INPUT_MALFORMED', `${where} is not an audit event`, { cause: parsed.error });
    }
    yield parsed.data;
  }
}

/**
 * Reads the lines of an export of either kind.
 * @throws LatchkeyError INPUT_MALFORMED naming the line, STATE_NOT_FOUND; system errors of the file
 */
export async function* readExportLines(path: string): AsyncGenerator<NumberedLine> {
  try {
    yield* readLines(path);
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR', 'EISDIR'].includes(systemErrorCode(error) ?? '')) throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no audit export ${path}`, {
      hint: 'write one with `latchkey audit export FILE`',
      cause: error,
    });
  }
}

async function* readLines(path: string): AsyncGenerator<NumberedLine> {
  const file = await open(path);
  try {
    let line = 0;
    for await (const text of file.readLines({ encoding: 'utf8' })) {
      line += 1;
      if (text === '') continue;
      const where = `${path}, line ${line},`;
      yield { value: parseLine(text, where), where };
    }
  } finally {
    await file.close();
  }
}

function parseLine(text: string, where: string): unknown {
  try {
    return parseJson(text, where);
  } catch (error) {
    const { code, message } = toLatchkeyError(error);
    throw new LatchkeyError(code, message, {
      hint: 'an export is one JSON document a line, as `latchkey audit export` writes it',
      cause: error,
    });
  }
}

/**
 * Checks a whole log from its first event on, in constant memory.
 * @returns the end of the chain: compare its sequence and hash with what you noted earlier
 * @throws LatchkeyError STATE_DAMAGED naming the first bad event, or when there is none at all
 */
export async function verifyAuditLog(events: AsyncIterable<AuditEvent>): Promise<AuditHead> {
  let head = AUDIT_START;
  for await (const event of events) {
    const check = checkAuditEvent(head, event);
    if (!check.ok) throw damagedLog(check.fault);
    head = check.head;
  }
  // An empty log would verify for ever; but every log begins with the making of the organization.
  if (head.sequence === AUDIT_START.sequence) {
    throw new LatchkeyError('STATE_DAMAGED', 'the audit log does not verify: it holds no event', {
      hint: 'every log begins with organization.create; export it again',
    });
  }
  return head;
}

/** The error for a log that somebody has changed. */
export function damagedLog(fault: string): LatchkeyError {
  return new LatchkeyError('STATE_DAMAGED', `the audit log does not verify: ${fault}`, {
    hint: 'keep a copy of the database and find out who could write to it',
  });
}
