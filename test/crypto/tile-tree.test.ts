import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TileTree, edgeWidth, hashesAt, leafHash } from '#src/crypto/tile-tree.ts';

/** RFC 6962, section 2.1, word for word. */
function mth(entries: readonly Uint8Array[]): Buffer {
  const [only] = entries;
  if (only === undefined) return createHash('sha256').digest();
  if (entries.length === 1) return createHash('sha256').update(Buffer.of(0)).update(only).digest();
  let k = 1;
  while (k * 2 < entries.length) k *= 2;
  return createHash('sha256')
    .update(Buffer.of(1))
    .update(mth(entries.slice(0, k)))
    .update(mth(entries.slice(k)))
    .digest();
}

const entriesOf = (count: number) =>
  Array.from({ length: count }, (_, index) => Buffer.from(`entry ${index}`));

function treeOf(entries: readonly Uint8Array[]): TileTree {
  const tree = new TileTree();
  for (const entry of entries) tree.add(leafHash(entry));
  return tree;
}

describe('the tile tree', () => {
  // The test vectors of certificate-transparency: eight leaves and the roots over the first 1 to 8 of them.
  it('gives the roots of the known vectors', () => {
    const leaves = [
      '',
      '00',
      '10',
      '2021',
      '3031',
      '40414243',
      '5051525354555657',
      '606162636465666768696a6b6c6d6e6f',
    ];
    const tree = new TileTree();
    const roots = leaves.map((leaf) => {
      tree.add(leafHash(Buffer.from(leaf, 'hex')));
      return Buffer.from(tree.root()).toString('hex');
    });
    expect(roots[0]).toBe('6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d');
    expect(roots[1]).toBe('fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125');
    expect(roots[7]).toBe('5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328');
    expect(Buffer.from(new TileTree().root()).toString('hex')).toBe(
      'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    );
  });

  it('agrees with the RFC at any size', () => {
    const entries = entriesOf(1100);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: entries.length }), (size) => {
        const part = entries.slice(0, size);
        expect(Buffer.from(treeOf(part).root())).toEqual(mth(part));
      }),
      { numRuns: 60, examples: [[1], [255], [256], [257], [512], [513]] },
    );
  });

  it('goes on over two levels of tiles, also from its kept tiles', () => {
    const size = 256 * 256 + 300;
    const entries = entriesOf(size);
    const levels: Uint8Array[][] = [entries.map((entry) => leafHash(entry)), [], []];
    const tree = new TileTree();
    for (const leaf of levels[0]!) {
      for (const tile of tree.add(leaf)) {
        expect(tile.index).toBe(levels[tile.level + 1]!.length);
        levels[tile.level + 1]!.push(tile.root);
      }
    }
    expect(levels.map((hashes) => hashes.length)).toEqual([size, 257, 1]);
    const edge = levels.map((hashes, level) =>
      hashes.slice(hashesAt(size, level) - edgeWidth(size, level), hashesAt(size, level)),
    );
    expect(new TileTree(size, edge).root()).toEqual(tree.root());
    expect(Buffer.from(tree.root())).toEqual(mth(entries));
  });
});
