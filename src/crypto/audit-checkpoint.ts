/** Checkpoints of the audit log (C2SP tlog-checkpoint): how many events there are, and the root over all of them. */
import type { KeyObject } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { canonicalJson } from '#src/base/json.ts';
import type { AuditEvent } from './audit-chain.ts';
import { type NoteVerifier, openNote, signNote } from './signed-note.ts';

export interface AuditCheckpoint {
  /** Events 1 to size are under the root. */
  readonly size: number;
  readonly root: Uint8Array;
}

/** The name of an organization's log, which is also the name of its key. */
export function auditLogName(organizationId: string): string {
  return `latchkey-audit/${organizationId}`;
}

/**
 * The entry of an event in the tree. Without the detail, which is of any size and may tell of people: the event's hash
 * covers it.
 */
export function auditTreeEntry(event: Omit<AuditEvent, 'detail'>): string {
  const json = canonicalJson;
  // As in `auditHash`: the fields are known, so they need not be sorted for each.
  return (
    `{"action":${json(event.action)},"actor":${json(event.actor)},"code":${json(event.code)},"hash":${json(event.hash)},` +
    `"organizationId":${json(event.organizationId)},"outcome":${json(event.outcome)},` +
    `"previousHash":${json(event.previousHash)},"sequence":${json(event.sequence)},"target":${json(event.target)},` +
    `"timeMs":${json(event.timeMs)}}`
  );
}

/** Signs a checkpoint. */
export function signCheckpoint(name: string, checkpoint: AuditCheckpoint, key: KeyObject): string {
  const root = Buffer.from(checkpoint.root).toString('base64');
  return signNote(`${name}\n${checkpoint.size}\n${root}\n`, name, key);
}

/**
 * Reads a checkpoint that the verifier's key has signed.
 * @param what its name, for messages
 * @throws LatchkeyError INPUT_MALFORMED, STATE_DAMAGED
 */
export function openCheckpoint(note: string, verifier: NoteVerifier, what: string): AuditCheckpoint {
  const [origin, sizeText = '', rootText = ''] = openNote(note, verifier, what).split('\n');
  const size = Number(sizeText);
  const root = Buffer.from(rootText, 'base64');
  const isWhole =
    /^(0|[1-9]\d{0,15})$/.test(sizeText) &&
    Number.isSafeInteger(size) &&
    root.length === 32 &&
    root.toString('base64') === rootText;
  if (!isWhole || origin !== verifier.name) {
    throw new LatchkeyError('INPUT_MALFORMED', `${what} is not a checkpoint of ${verifier.name}`);
  }
  return { size, root };
}
