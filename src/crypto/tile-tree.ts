/**
 * The Merkle tree of RFC 6962, section 2.1, kept as the right edge of its tiles (C2SP tlog-tiles, height 8): at
 * each level the hashes of the tile that is not full yet. Adding costs two hashes on average, the root some dozen.
 */
import { createHash } from 'node:crypto';

/** Hashes in a full tile. */
export const TILE_WIDTH = 256;

/** A tile that became full; its root is one hash of the level above. */
export interface FullTile {
  readonly level: number;
  readonly index: number;
  readonly root: Uint8Array;
}

/** SHA-256(0x00 || entry) of RFC 6962. */
export function leafHash(entry: string | Uint8Array): Uint8Array {
  return createHash('sha256').update(LEAF_PREFIX).update(entry).digest();
}

/** SHA-256(0x01 || left || right) of RFC 6962. */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return createHash('sha256').update(NODE_PREFIX).update(left).update(right).digest();
}

const LEAF_PREFIX = Buffer.from([0]);
const NODE_PREFIX = Buffer.from([1]);

export class TileTree {
  /** By level, the hashes of the last tile; always fewer than a tile holds. */
  readonly #edge: Uint8Array[][];
  #size: number;

  /**
   * @param size leaves so far
   * @param edge by level, the hashes of the last tile, `edgeWidth(size, level)` of them
   */
  constructor(size = 0, edge: readonly (readonly Uint8Array[])[] = []) {
    this.#size = size;
    this.#edge = edge.map((hashes) => [...hashes]);
  }

  get size(): number {
    return this.#size;
  }

  /** Adds a leaf; gives the tiles that it filled, lowest first. */
  add(leaf: Uint8Array): FullTile[] {
    const filled: FullTile[] = [];
    this.#size += 1;
    let hash = leaf;
    for (let level = 0; ; level += 1) {
      const hashes = (this.#edge[level] ??= []);
      hashes.push(hash);
      if (hashes.length < TILE_WIDTH) return filled;
      hash = joinPerfect(hashes, null);
      this.#edge[level] = [];
      filled.push({ level, index: hashesAt(this.#size, level + 1) - 1, root: hash });
    }
  }

  /** The tree head; of an empty tree the hash of nothing. */
  root(): Uint8Array {
    let right: Uint8Array | null = null;
    for (const hashes of this.#edge) {
      if (hashes.length > 0) right = joinPerfect(hashes, right);
    }
    return right ?? createHash('sha256').digest();
  }
}

/** Hashes that a level has in a tree of that many leaves. */
export function hashesAt(size: number, level: number): number {
  return Math.floor(size / TILE_WIDTH ** level);
}

/** Hashes in the last tile of a level, none when it is full. */
export function edgeWidth(size: number, level: number): number {
  return hashesAt(size, level) % TILE_WIDTH;
}

/** The root over hashes of perfect subtrees of one height, with a smaller tree at their right. */
function joinPerfect(hashes: readonly Uint8Array[], smaller: Uint8Array | null): Uint8Array {
  let root = smaller;
  let end = hashes.length;
  // The lowest bit that is set is the rightmost perfect group.
  for (let width = 1; end > 0; width *= 2) {
    if ((end & width) === 0) continue;
    const group = perfectRoot(hashes.slice(end - width, end));
    root = root === null ? group : nodeHash(group, root);
    end -= width;
  }
  if (root === null) throw new RangeError('no hashes to join');
  return root;
}

/** @param hashes a power of two of them */
function perfectRoot(hashes: readonly Uint8Array[]): Uint8Array {
  const [left, right] = hashes;
  if (left === undefined) throw new RangeError('no hashes to join');
  if (right === undefined) return left;
  const middle = hashes.length / 2;
  return nodeHash(perfectRoot(hashes.slice(0, middle)), perfectRoot(hashes.slice(middle)));
}
