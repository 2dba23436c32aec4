/** What is asked before a chain of snapshots is used. */
import { topOfImage } from './chain.ts';
import type { SnapshotGate } from './gate.ts';
import type { Snapshot, SnapshotGateRecord } from './snapshot.ts';

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
  const top = topOfImage(chain);
  if (top !== undefined) await gate.authorizeStart(top.namespace, top.chainId, records);
}
