/** Under which key a layer may be unpacked, if it needs one. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { LayerIdentity, SnapshotGate } from './gate.ts';
import type { SnapshotGateRecord } from './snapshot.ts';

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
