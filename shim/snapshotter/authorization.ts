/** What is asked before a chain of snapshots is used. */
import { isDigest } from '#src/oci/digest.ts';
import type { SnapshotGate } from './gate.ts';
import { type Snapshot, type SnapshotGateRecord, parseKey } from './snapshot.ts';

/**
 * Asks for a lease for every gated layer of a chain and, for a start, whether the chain is one that was released: with
 * the true image on the node, a forged one could share its lower layers and put others in the place of the upper ones.
 * @param chain nearest first
 * @param own the gate of the snapshot above the chain, if it has one
 * @param isStart false while a layer is being unpacked, which needs a part of an image only
 * @throws LatchkeyError DENIED_*
 */
export async function authorizeChain(
  gate: SnapshotGate,
  chain: readonly Snapshot[],
  own: SnapshotGateRecord | null,
  isStart: boolean,
): Promise<void> {
  const records = [own, ...chain.map((snapshot) => snapshot.gate)].filter((record) => record !== null);
  if (records.length === 0) return;
  await gate.authorize(records.map((record) => [record]));
  if (!isStart) return;
  // What containers wrote and was committed lies above the image under names of its own.
  for (const { key } of chain) {
    const { namespace, name } = parseKey(key);
    if (isDigest(name)) return gate.authorizeStart(namespace, name, records);
  }
}
