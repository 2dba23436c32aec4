/**
 * Proofs over the Merkle tree of RFC 6962: that an entry is in a tree (section 2.1.1), and that a tree goes on from an earlier
 * one (section 2.1.2). Checked as RFC 9162 says, sections 2.1.3.2 and 2.1.4.2, without the tree.
 */
import { nodeHash } from './tile-tree.ts';

const HASH_BYTES = 32;

/** A tree that keeps all its hashes, to prove with: 64 bytes for each leaf. */
export class ProvingTree {
  /** By height, the hashes over 2^height leaves each. */
  readonly #levels: HashList[] = [];

  get size(): number {
    return this.#levels[0]?.length ?? 0;
  }

  add(leaf: Uint8Array): void {
    let hash = leaf;
    for (let height = 0; ; height += 1) {
      const hashes = (this.#levels[height] ??= new HashList());
      hashes.push(hash);
      if (hashes.length % 2 === 1) return;
      hash = nodeHash(hashes.at(hashes.length - 2), hashes.at(hashes.length - 1));
    }
  }

  /** The head of the tree over the first leaves. @throws RangeError when there are none, or fewer */
  root(size: number): Uint8Array {
    return this.#range(0, size);
  }

  /** That a leaf is in the tree over the first leaves. */
  inclusion(index: number, size: number): Uint8Array[] {
    return this.#path(index, 0, size);
  }

  /** That the tree over the first leaves goes on from the one over fewer, at least one. */
  consistency(earlierSize: number, size: number): Uint8Array[] {
    return this.#subproof(earlierSize, 0, size, true);
  }

  #path(index: number, from: number, to: number): Uint8Array[] {
    if (to - from <= 1) return [];
    const middle = from + splitOf(to - from);
    return index < middle
      ? [...this.#path(index, from, middle), this.#range(middle, to)]
      : [...this.#path(index, middle, to), this.#range(from, middle)];
  }

  #subproof(end: number, from: number, to: number, isWhole: boolean): Uint8Array[] {
    if (end === to) return isWhole ? [] : [this.#range(from, to)];
    const middle = from + splitOf(to - from);
    return end <= middle
      ? [...this.#subproof(end, from, middle, isWhole), this.#range(middle, to)]
      : [...this.#subproof(end, middle, to, false), this.#range(from, middle)];
  }

  /** @param from a multiple of the largest power of two that fits */
  #range(from: number, to: number): Uint8Array {
    const count = to - from;
    const height = Math.log2(count);
    if (Number.isInteger(height)) return this.#hashes(height).at(from / count);
    const middle = from + splitOf(count);
    return nodeHash(this.#range(from, middle), this.#range(middle, to));
  }

  #hashes(height: number): HashList {
    const hashes = this.#levels[height];
    if (hashes === undefined) throw new RangeError('the tree has no such hash');
    return hashes;
  }
}

/**
 * The head of the tree that a proof of inclusion leads to; null when it is no proof for this place.
 * @param index of the leaf, below the size
 */
export function rootOfInclusion(
  leaf: Uint8Array,
  index: number,
  size: number,
  proof: readonly Uint8Array[],
): Uint8Array | null {
  if (index >= size) return null;
  let [at, last, root] = [index, size - 1, leaf];
  for (const hash of proof) {
    if (last === 0) return null;
    if (isOdd(at) || at === last) {
      root = nodeHash(hash, root);
      while (!isOdd(at) && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      root = nodeHash(root, hash);
    }
    [at, last] = [half(at), half(last)];
  }
  return last === 0 ? root : null;
}

/** The head and the size of a tree. */
export interface TreeHead {
  readonly size: number;
  readonly root: Uint8Array;
}

/** True when the proof shows that the later tree begins with all of the earlier one, which has at least one leaf. */
export function isConsistent(earlier: TreeHead, later: TreeHead, proof: readonly Uint8Array[]): boolean {
  if (earlier.size === 0 || earlier.size > later.size) return false;
  if (earlier.size === later.size) return proof.length === 0 && isEqual(earlier.root, later.root);
  const isPerfect = Number.isInteger(Math.log2(earlier.size));
  const [first, ...rest] = isPerfect ? [earlier.root, ...proof] : proof;
  if (first === undefined) return false;
  let [at, last, earlierRoot, laterRoot] = [earlier.size - 1, later.size - 1, first, first];
  while (isOdd(at)) [at, last] = [half(at), half(last)];
  for (const hash of rest) {
    if (last === 0) return false;
    if (isOdd(at) || at === last) {
      earlierRoot = nodeHash(hash, earlierRoot);
      laterRoot = nodeHash(hash, laterRoot);
      while (!isOdd(at) && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      laterRoot = nodeHash(laterRoot, hash);
    }
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && isEqual(earlierRoot, earlier.root) && isEqual(laterRoot, later.root);
}

/** Hashes side by side in memory: as single objects they take three times as much. */
class HashList {
  #bytes = Buffer.alloc(HASH_BYTES);
  length = 0;

  push(hash: Uint8Array): void {
    if (this.#bytes.length === this.length * HASH_BYTES) {
      this.#bytes = Buffer.concat([this.#bytes], 2 * this.#bytes.length);
    }
    this.#bytes.set(hash, this.length * HASH_BYTES);
    this.length += 1;
  }

  at(index: number): Uint8Array {
    if (index >= this.length) throw new RangeError('the tree has no such hash');
    return this.#bytes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES);
  }
}

/** The largest power of two below a count. */
function splitOf(count: number): number {
  let split = 1;
  while (split * 2 < count) split *= 2;
  return split;
}

/** Not with bit operators, which cut numbers off at 32 bits. */
function isOdd(number: number): boolean {
  return number % 2 === 1;
}

function half(number: number): number {
  return Math.floor(number / 2);
}

function isEqual(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}
