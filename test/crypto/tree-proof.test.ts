import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TileTree, leafHash } from '#src/crypto/tile-tree.ts';
import { ProvingTree, isConsistent, rootOfInclusion } from '#src/crypto/tree-proof.ts';

const LEAVES = Array.from({ length: 600 }, (_, index) => leafHash(`entry ${index}`));
const tree = new ProvingTree();
for (const leaf of LEAVES) tree.add(leaf);

function headOf(size: number) {
  const tiles = new TileTree();
  for (const leaf of LEAVES.slice(0, size)) tiles.add(leaf);
  return { size, root: tiles.root() };
}

/** A size, and a smaller or equal one. */
const sizes = fc
  .integer({ min: 1, max: LEAVES.length })
  .chain((size) => fc.tuple(fc.integer({ min: 1, max: size }), fc.constant(size)));

describe('proofs over the tree', () => {
  it('lead to the root of the tiles, for every leaf and size up to forty', () => {
    for (let size = 1; size <= 40; size += 1) {
      const { root } = headOf(size);
      expect(Buffer.from(tree.root(size))).toEqual(Buffer.from(root));
      for (let index = 0; index < size; index += 1) {
        const proven = rootOfInclusion(LEAVES[index]!, index, size, tree.inclusion(index, size));
        expect(proven === null ? null : Buffer.from(proven)).toEqual(Buffer.from(root));
        const earlier = headOf(index + 1);
        expect(isConsistent(earlier, { size, root }, tree.consistency(index + 1, size))).toBe(true);
      }
    }
  });

  // RFC 6962, section 2.1.3: the example of seven leaves.
  it('are those of the RFC', () => {
    const length = (hashes: readonly Uint8Array[]) => hashes.length;
    expect([0, 3, 4, 6].map((index) => length(tree.inclusion(index, 7)))).toEqual([3, 3, 3, 2]);
    expect([3, 4, 6].map((size) => length(tree.consistency(size, 7)))).toEqual([4, 1, 3]);
    expect(tree.inclusion(0, 7)[0]).toEqual(LEAVES[1]);
    expect(tree.consistency(3, 7)[0]).toEqual(LEAVES[2]);
  });

  it('show another leaf, place, size, hash, and one too many or too few', () => {
    fc.assert(
      fc.property(sizes, fc.nat(), ([place, size], at) => {
        const index = place - 1;
        const root = Buffer.from(headOf(size).root);
        const proof = tree.inclusion(index, size);
        const leadsTo = (leaf: Uint8Array, where: number, hashes: readonly Uint8Array[], of = size) => {
          const proven = rootOfInclusion(leaf, where, of, hashes);
          return proven !== null && root.equals(proven);
        };
        expect(leadsTo(LEAVES[index]!, index, proof)).toBe(true);
        expect(leadsTo(leafHash('another'), index, proof)).toBe(false);
        expect(leadsTo(LEAVES[index]!, index, [...proof, LEAVES[0]!])).toBe(false);
        expect(leadsTo(LEAVES[index]!, size, proof)).toBe(false);
        if (proof.length === 0) return;
        expect(leadsTo(LEAVES[index]!, index, proof.slice(1))).toBe(false);
        const wrong = proof.with(at % proof.length, leafHash('another'));
        expect(leadsTo(LEAVES[index]!, index, wrong)).toBe(false);
      }),
    );
  });

  it('show an earlier tree that was another one', () => {
    fc.assert(
      fc.property(sizes, fc.nat(), ([earlierSize, size], at) => {
        const [earlier, later] = [headOf(earlierSize), headOf(size)];
        const proof = tree.consistency(earlierSize, size);
        const other = { size: earlierSize, root: leafHash('another') };
        expect(isConsistent(earlier, later, proof)).toBe(true);
        expect(isConsistent(other, later, proof)).toBe(false);
        expect(isConsistent(earlier, { ...later, root: other.root }, proof)).toBe(false);
        expect(isConsistent(earlier, later, [...proof, other.root])).toBe(false);
        if (earlierSize < size) {
          expect(isConsistent(later, earlier, proof)).toBe(false);
          expect(isConsistent(earlier, later, [])).toBe(false);
        }
        if (proof.length === 0) return;
        expect(isConsistent(earlier, later, proof.with(at % proof.length, other.root))).toBe(false);
      }),
    );
    expect(isConsistent({ size: 0, root: headOf(0).root }, headOf(3), [])).toBe(false);
  });
});
