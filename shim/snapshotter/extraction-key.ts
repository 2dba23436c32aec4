/** Under which key a layer may be unpacked, if it needs one. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { ExtractionOutcome, LayerIdentity, SnapshotGate } from './gate.ts';
import type { Snapshot, SnapshotGateRecord } from './snapshot.ts';

/**
 * Asks for a lease where a layer is to be had in encrypted form only.
 * @returns the key's record; null for a layer that is unpacked as a plain one
 * @throws LatchkeyError DENIED_*, KEY_NOT_FOUND for a layer that was encrypted for others
 */
export async function extractionKey(
  gate: SnapshotGate,
  identity: LayerIdentity,
): Promise<SnapshotGateRecord | null> {
  const { encryptedIn, plainTwin, layer } = identity;
  if (encryptedIn.length === 0) {
    if (!layer.encrypted || plainTwin) return null;
    throw new LatchkeyError('KEY_NOT_FOUND', `layer ${layer.digest} is encrypted, but not for Latchkey`, {
      hint: 'it needs the tool and the key it was encrypted for',
    });
  }
  try {
    return (await gate.authorize([encryptedIn]))[0] ?? null;
  } catch (error) {
    // What is to be had unencrypted needs no license; its encrypted form gets no key then.
    if (plainTwin) return null;
    throw error;
  }
}

/**
 * What opened the layer that was unpacked into a snapshot; null when no key was needed. An agent that was restarted
 * meanwhile cannot tell whether the files are secret, so it refuses; containerd unpacks again.
 * @throws LatchkeyError STATE_PRECONDITION
 */
export function closedExtractionKey(gate: SnapshotGate, snapshot: Snapshot): SnapshotGateRecord | null {
  const outcome = gate.closeExtraction(snapshot.key);
  if (outcome.state === 'verified') return outcome.gate;
  if (outcome.state === 'no-key') return null;
  if (outcome.state === 'unknown' && snapshot.layer?.encrypted !== true) return null;
  throw new LatchkeyError('STATE_PRECONDITION', `the layer of ${snapshot.key} was not verified`, {
    hint: 'pull the image again',
  });
}

/** True when nothing was wrong with a layer that is not committed: containerd stopped by itself. */
export function wasGivenUp(outcome: ExtractionOutcome): boolean {
  return (
    outcome.state === 'verified' || (outcome.state === 'unverified' && outcome.reason?.code === 'INTERRUPTED')
  );
}
