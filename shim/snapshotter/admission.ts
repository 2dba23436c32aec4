/** What is asked about the containers on a snapshot before they start. */
import { isGated, topOfImage } from './chain.ts';
import type { SnapshotGate } from './gate.ts';
import type { Journal } from './journal.ts';
import type { Snapshot } from './snapshot.ts';

/** On a snapshot whose container was seen to be of a released image: a node may forget the image of one that it keeps. */
const ADMITTED_LABEL = 'latchkey/admitted';

/** Tells the gate of a container to come on a snapshot, if there are gated layers below it. */
export function foreseeContainers(
  { gate }: { readonly gate: SnapshotGate },
  snapshot: Snapshot,
  chain: readonly Snapshot[],
): void {
  const top = isGated(chain) ? topOfImage(chain) : undefined;
  if (top !== undefined) gate.foreseeContainers(snapshot.key, top.chainId);
}

/**
 * Has the gate look at the containers on an open snapshot above gated layers.
 * @param chain the layers below it, nearest first
 * @returns counts the start, to be called once its layers are there
 * @throws LatchkeyError DENIED_IMAGE_ALTERED, DENIED_OFFLINE_STARTS
 */
export async function admitContainers(
  { gate, journal }: { readonly gate: SnapshotGate; readonly journal: Journal },
  snapshot: Snapshot,
  chain: readonly Snapshot[],
): Promise<() => Promise<void>> {
  const top = topOfImage(chain);
  if (top === undefined) return countNothing;
  const wasAdmitted = snapshot.labels[ADMITTED_LABEL] !== undefined;
  const isAdmitted = await gate.admitContainers(snapshot.key, top.chainId, wasAdmitted);
  if (!isAdmitted) return countNothing;
  const countStart = () => gate.countStart(snapshot.key, top.chainId);
  const current = journal.find(snapshot.key);
  if (wasAdmitted || current === undefined) return countStart;
  // It survives the agent at once, and the machine with the next sync: a start need not wait for one more.
  journal.replace({ ...current, labels: { ...current.labels, [ADMITTED_LABEL]: 'true' } });
  return countStart;
}

function countNothing(): Promise<void> {
  return Promise.resolve();
}
