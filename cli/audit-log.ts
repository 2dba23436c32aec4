/** The audit log from a key server or from an exported file, and the check of its chain. */
import { open } from 'node:fs/promises';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import {
  AUDIT_START,
  type AuditEvent,
  type AuditHead,
  auditEventSchema,
  checkAuditEvent,
} from '#src/crypto/audit-chain.ts';

/**
 * Reads an export: one event as JSON a line.
 * @throws LatchkeyError INPUT_MALFORMED naming the line, STATE_NOT_FOUND; system errors of the file
 */
export async function* readAuditFile(path: string): AsyncGenerator<AuditEvent> {
  try {
    yield* readEvents(path);
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR', 'EISDIR'].includes(systemErrorCode(error) ?? '')) throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no audit export ${path}`, {
      hint: 'write one with `latchkey audit export FILE`',
      cause: error,
    });
  }
}

async function* readEvents(path: string): AsyncGenerator<AuditEvent> {
  const file = await open(path);
  try {
    let line = 0;
    for await (const text of file.readLines({ encoding: 'utf8' })) {
      line += 1;
      if (text === '') continue;
      const parsed = auditEventSchema.safeParse(parseJson(text, `${path}, line ${line},`));
      if (!parsed.success) {
        throw new LatchkeyError('INPUT_MALFORMED', `${path}, line ${line}, is not an audit event`, {
          cause: parsed.error,
        });
      }
      yield parsed.data;
    }
  } finally {
    await file.close();
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
    if (!check.ok) {
      throw new LatchkeyError('STATE_DAMAGED', `the audit log does not verify: ${check.fault}`, {
        hint: 'keep a copy of the database and find out who could write to it',
      });
    }
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
