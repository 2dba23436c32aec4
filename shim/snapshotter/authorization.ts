/** What is asked before a chain of snapshots is used. */
import { topOfImage } from './chain.ts';
import type { SnapshotGate } from './gate.ts';
import type { Journal } from './journal.ts';
import type { Snapshot, SnapshotGateRecord } from './snapshot.ts';

/**
 * Asks for a lease for every gated layer of a chain and, for a start, whether the chain is one that was released: with
 * the true image on the node, a forged one could share its lower layers and put others in the place of the upper ones.
 * @param chain nearest first
 * @param own the gate of the snapshot above the chain, if it has one
 * @param isStart false while a layer is being unpacked, which needs a part of an image only
 * @returns the chain, each layer under the key by which it is allowed
 * @throws LatchkeyError DENIED_*
 */
export async function authorizeChain(
  { gate, journal }: { readonly gate: SnapshotGate; readonly journal: Journal },
  chain: readonly Snapshot[],
  own: SnapshotGateRecord | null,
  isStart: boolean,
): Promise<readonly Snapshot[]> {
  const gated = chain.flatMap((snapshot) => (snapshot.gate === null ? [] : [snapshot.gate]));
  const records = own === null ? gated : [own, ...gated];
  if (records.length === 0) return chain;
  const allowed = await gate.authorizeLayers(records);
  const given = new Map(records.map((record, index) => [record, allowed[index] ?? record]));
  const layers = chain.map((snapshot) => {
    const record = snapshot.gate === null ? undefined : given.get(snapshot.gate);
    return record === undefined || record === snapshot.gate ? snapshot : takeOver(journal, snapshot, record);
  });
  if (!isStart) return layers;
  const top = topOfImage(chain);
  if (top !== undefined) await gate.authorizeStart(top.namespace, top.chainId, allowed);
  return layers;
}

/**
 * Images that share a layer share its snapshot, under the key of the one that came first. When that one is refused, the
 * layer goes on under the key of another: so it is made again, kept and dropped as that one's.
 */
export function takeOver(journal: Journal, snapshot: Snapshot, gate: SnapshotGateRecord): Snapshot {
  const current = journal.find(snapshot.key);
  if (current?.id !== snapshot.id) return { ...snapshot, gate };
  const taken = { ...current, gate };
  journal.replace(taken);
  return taken;
}
