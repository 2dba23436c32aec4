/** Which layer is unpacked, and under which key, if it needs one. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { ExtractionOutcome, LayerIdentity, SnapshotGate } from './gate.ts';
import type { Snapshot, SnapshotGateRecord } from './snapshot.ts';

/**
 * The layer behind a chain ID in the images of a namespace.
 * @throws LatchkeyError STATE_PRECONDITION when none has it
 */
export async function identifyLayer(
  gate: SnapshotGate,
  namespace: string,
  chainId: Digest,
): Promise<LayerIdentity> {
  const identity = await gate.identify(namespace, chainId);
  if (identity !== undefined) return identity;
  throw new LatchkeyError('STATE_PRECONDITION', `no image that can be read here has a layer for ${chainId}`, {
    hint: 'pull the image again',
  });
}

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
