/**
 * An export of chosen events with proofs: a first line with a signed checkpoint, and how it goes on from earlier ones; then each
 * event with the proof that it is under that checkpoint. Whoever has the key verifies every event without the others.
 */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { type AuditEvent, auditEventSchema, auditHash } from '#src/crypto/audit-chain.ts';
import { type AuditCheckpoint, auditTreeEntry, openCheckpoint } from '#src/crypto/audit-checkpoint.ts';
import type { NoteVerifier } from '#src/crypto/signed-note.ts';
import { leafHash } from '#src/crypto/tile-tree.ts';
import { isConsistent, rootOfInclusion } from '#src/crypto/tree-proof.ts';
import type { KeptCheckpoint } from './audit-checkpoints.ts';
import { type NumberedLine, damagedLog } from './audit-log.ts';

/** A path through a tree of 2^53 events is shorter. */
const MAX_PROOF_HASHES = 64;

const proofSchema = z.array(z.base64().length(44)).max(MAX_PROOF_HASHES);

export const proofHeaderSchema = z.object({
  format: z.literal('latchkey-audit-proofs/1'),
  /** The signed note that every event is proven to be under. */
  checkpoint: z.string(),
  /** What was asked for; empty = every event. */
  filter: z.partialRecord(z.enum(['target', 'actor', 'action']), z.string()),
  /** That the checkpoint goes on from earlier ones, by their size. */
  consistency: z.array(z.object({ size: z.int().positive(), proof: proofSchema })),
});

export type ProofHeader = z.infer<typeof proofHeaderSchema>;

export const provenEventSchema = auditEventSchema.extend({ proof: proofSchema });

export type ProvenEvent = z.infer<typeof provenEventSchema>;

export interface VerifiedProofs {
  /** Events in the export. */
  readonly events: number;
  /** Events in the log, under the checkpoint. */
  readonly size: number;
  readonly filter: ProofHeader['filter'];
}

/**
 * Verifies an export with proofs, event by event.
 * @param kept checkpoints of before, each of which the export must go on from
 * @throws LatchkeyError STATE_DAMAGED naming the first bad event or checkpoint; INPUT_MALFORMED naming the line
 */
export async function verifyProofs(
  header: ProofHeader,
  lines: AsyncIterable<NumberedLine>,
  verifier: NoteVerifier,
  kept: readonly KeptCheckpoint[],
): Promise<VerifiedProofs> {
  const checkpoint = openCheckpoint(header.checkpoint, verifier, 'the checkpoint of the export');
  for (const earlier of kept) requireContinuation(header, checkpoint, earlier);
  const isWhole = Object.keys(header.filter).length === 0;
  let [events, last] = [0, 0];
  for await (const { value, where } of lines) {
    const parsed = provenEventSchema.safeParse(value);
    if (!parsed.success) {
      throw new LatchkeyError('INPUT_MALFORMED', `${where} is not an audit event with its proof`, {
        cause: parsed.error,
      });
    }
    const { sequence } = parsed.data;
    if (sequence <= last) throw damagedLog(`event ${sequence} stands behind event ${last}`);
    if (isWhole && sequence > last + 1) throw damagedLog(`event ${last + 1} is missing`);
    checkProvenEvent(parsed.data, checkpoint);
    [events, last] = [events + 1, sequence];
  }
  if (isWhole && last < checkpoint.size) {
    throw damagedLog(
      `event ${last + 1} is missing (the export ends, but its checkpoint has ${checkpoint.size} events)`,
    );
  }
  // Nobody writes such a one: its lines were taken out.
  if (events === 0) throw damagedLog('it holds no event');
  return { events, size: checkpoint.size, filter: header.filter };
}

/** @throws LatchkeyError STATE_DAMAGED */
export function checkProvenEvent(event: ProvenEvent, { size, root }: AuditCheckpoint): void {
  const { sequence } = event;
  if (event.hash !== hashOrNull(event)) throw damagedLog(`event ${sequence} was changed`);
  const leaf = leafHash(auditTreeEntry(event));
  const proven = rootOfInclusion(leaf, sequence - 1, size, toHashes(event.proof));
  if (proven !== null && Buffer.compare(proven, root) === 0) return;
  throw damagedLog(
    sequence > size
      ? `event ${sequence} is not under the checkpoint, which has ${size} events`
      : `event ${sequence} is not the one under the checkpoint`,
  );
}

function requireContinuation(
  header: ProofHeader,
  checkpoint: AuditCheckpoint,
  earlier: KeptCheckpoint,
): void {
  const { size, source } = earlier;
  if (size > checkpoint.size) {
    throw damagedLog(
      `event ${checkpoint.size + 1} is missing (the export ends there, but ${source} has ${size} events)`,
    );
  }
  const known = header.consistency.find((each) => each.size === size);
  if (size < checkpoint.size && size > 0 && known === undefined) {
    throw new LatchkeyError('STATE_NOT_FOUND', `the export does not prove that it goes on from ${source}`, {
      hint: `export again with --since ${source}`,
    });
  }
  const proof = size === checkpoint.size ? [] : toHashes(known?.proof ?? []);
  // Everything goes on from a log without events.
  if (size === 0 || isConsistent(earlier, checkpoint, proof)) return;
  throw damagedLog(`events 1 to ${size} are not those of ${source}`);
}

function toHashes(proof: readonly string[]): Uint8Array[] {
  return proof.map((hash) => Buffer.from(hash, 'base64'));
}

/** A changed number may not even have a canonical form. */
function hashOrNull(event: AuditEvent): string | null {
  try {
    return auditHash(event.previousHash, event);
  } catch {
    return null;
  }
}
