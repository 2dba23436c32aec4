/** Checkpoints of the audit log that somebody has kept, and the check of a log against them. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { type AuditCheckpoint, auditTreeEntry, openCheckpoint } from '#src/crypto/audit-checkpoint.ts';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { MAX_NOTE_BYTES, type NoteVerifier } from '#src/crypto/signed-note.ts';
import { TileTree, leafHash } from '#src/crypto/tile-tree.ts';

export interface KeptCheckpoint extends AuditCheckpoint {
  /** Where it comes from, for messages. */
  readonly source: string;
}

/**
 * Reads a checkpoint, or all `*.checkpoint` of a directory.
 * @throws LatchkeyError STATE_NOT_FOUND, INPUT_MALFORMED, STATE_DAMAGED for one that the key did not sign
 */
export async function readCheckpoints(path: string, verifier: NoteVerifier): Promise<KeptCheckpoint[]> {
  try {
    const isDirectory = (await stat(path)).isDirectory();
    const names = isDirectory ? (await readdir(path)).filter((name) => name.endsWith('.checkpoint')) : [];
    if (isDirectory && names.length === 0)
      throw noCheckpoint(`in ${path}, which has no file *.checkpoint`, undefined);
    const files = isDirectory ? names.sort().map((name) => join(path, name)) : [path];
    const kept: KeptCheckpoint[] = [];
    for (const source of files) {
      const note = await readBoundedFile(source, MAX_NOTE_BYTES);
      // A file that is larger is none either.
      kept.push({ ...openCheckpoint((note ?? '').toString(), verifier, source), source });
    }
    return kept;
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) throw error;
    throw noCheckpoint(path, error);
  }
}

function noCheckpoint(path: string, cause: unknown): LatchkeyError {
  return new LatchkeyError('STATE_NOT_FOUND', `there is no checkpoint ${path}`, {
    hint: 'write one with `latchkey audit checkpoint > FILE.checkpoint`',
    cause,
  });
}

/**
 * Passes events on, and compares the tree over them with each checkpoint on the way.
 * @throws LatchkeyError STATE_DAMAGED naming the first checkpoint that the log does not keep to
 */
export async function* againstCheckpoints(
  events: AsyncIterable<AuditEvent>,
  checkpoints: readonly KeptCheckpoint[],
): AsyncGenerator<AuditEvent> {
  const waiting = [...checkpoints].sort((left, right) => left.size - right.size);
  const tree = new TileTree();
  let agreed: KeptCheckpoint | null = null;
  for await (const event of events) {
    // Whoever takes the events checks them first, so that a changed event is named before its checkpoint.
    yield event;
    tree.add(leafHash(auditTreeEntry(event)));
    for (let next = waiting[0]; next?.size === tree.size; next = waiting[0]) {
      if (Buffer.compare(tree.root(), next.root) !== 0) throw rewritten(next, agreed);
      agreed = next;
      waiting.shift();
    }
  }
  const missed = waiting.at(0);
  if (missed === undefined) return;
  throw new LatchkeyError(
    'STATE_DAMAGED',
    `the audit log does not verify: event ${tree.size + 1} is missing (the log ends, but ${missed.source} has ${missed.size} events)`,
    { hint: 'its end was removed, or an older database was put in the place of this one' },
  );
}

function rewritten(checkpoint: KeptCheckpoint, agreed: KeptCheckpoint | null): LatchkeyError {
  if (agreed?.size === checkpoint.size) {
    return new LatchkeyError(
      'STATE_DAMAGED',
      `${checkpoint.source} and ${agreed.source} are of two logs: both have ${checkpoint.size} events, and not the same`,
      {
        hint: 'the key server has shown different logs to different people; keep both, and a copy of the database',
      },
    );
  }
  const span = `events ${(agreed?.size ?? 0) + 1} to ${checkpoint.size}`;
  return new LatchkeyError(
    'STATE_DAMAGED',
    `the audit log does not verify: ${span} are not those of ${checkpoint.source}`,
    { hint: 'the log was written anew; keep a copy of the database and find out who could write to it' },
  );
}
