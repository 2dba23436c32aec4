/** A snapshot's parents down to the base, and what they are together. */
import { LatchkeyError } from '#src/base/errors.ts';
import { type Digest, isDigest } from '#src/oci/digest.ts';
import type { Journal } from './journal.ts';
import { type Snapshot, parseKey } from './snapshot.ts';

/**
 * The chain of committed snapshots from a parent down to the base, nearest first.
 * @param parent containerd's key; '' for none
 * @throws LatchkeyError STATE_PRECONDITION
 */
export function parentChain(journal: Journal, parent: string): Snapshot[] {
  const chain: Snapshot[] = [];
  for (let key: string | null = parent === '' ? null : parent; key !== null;) {
    const snapshot = journal.find(key);
    // Never NOT_FOUND: CRI answers that by unpacking the image again, and so on without end.
    if (snapshot?.kind !== 'committed') {
      throw new LatchkeyError('STATE_PRECONDITION', `parent snapshot ${key} is not a committed one`);
    }
    chain.push(snapshot);
    key = snapshot.parent;
  }
  return chain;
}

/** A chain is gated when any layer in it is: whoever mounts the top sees all of it. */
export function isGated(chain: readonly Snapshot[]): boolean {
  return chain.some(({ gate }) => gate !== null);
}

/** The topmost layer of the image in a chain: what containers wrote and was committed lies above it under other names. */
export function topOfImage(
  chain: readonly Snapshot[],
): { readonly namespace: string; readonly chainId: Digest } | undefined {
  for (const { key } of chain) {
    const { namespace, name } = parseKey(key);
    if (isDigest(name)) return { namespace, chainId: name };
  }
  return undefined;
}
