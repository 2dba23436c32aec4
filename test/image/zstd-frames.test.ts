import { randomBytes } from 'node:crypto';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ZstdFrameSplitter } from '#src/image/zstd-frames.ts';

function skippable(content: Uint8Array, variant: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(0x184d2a50 + variant, 0);
  header.writeUInt32LE(content.length, 4);
  return Buffer.concat([header, content]);
}

const frame = fc.record({
  content: fc.uint8Array({ maxLength: 400 }),
  repeat: fc.integer({ min: 1, max: 1000 }),
  checksum: fc.integer({ min: 0, max: 1 }),
  contentSize: fc.integer({ min: 0, max: 1 }),
});

/** A stream of frames of all kinds, with their ends. */
const stream = fc
  .array(
    fc.oneof(
      frame.map(({ content, repeat, checksum, contentSize }) =>
        zstdCompressSync(Buffer.concat(Array.from({ length: repeat }, () => content)), {
          params: {
            [constants.ZSTD_c_checksumFlag]: checksum,
            [constants.ZSTD_c_contentSizeFlag]: contentSize,
          },
        }),
      ),
      fc.tuple(fc.uint8Array({ maxLength: 50 }), fc.nat(15)).map(([content, n]) => skippable(content, n)),
    ),
    { minLength: 1, maxLength: 6 },
  )
  .map((frames) => frames.map((bytes) => Buffer.from(bytes)));

function split(bytes: Buffer, stepBytes: number): { pieces: Buffer[]; isBetweenFrames: boolean } {
  const splitter = new ZstdFrameSplitter();
  const pieces: Buffer[] = [];
  for (let start = 0; start < bytes.length; start += stepBytes) {
    for (const piece of splitter.split(bytes.subarray(start, start + stepBytes)))
      pieces.push(Buffer.from(piece));
  }
  return { pieces, isBetweenFrames: splitter.isBetweenFrames };
}

describe('zstd frames', () => {
  test('are cut apart exactly', () => {
    fc.assert(
      fc.property(stream, (frames) => {
        const { pieces, isBetweenFrames } = split(Buffer.concat(frames), Number.MAX_SAFE_INTEGER);
        expect(pieces).toEqual(frames);
        expect(isBetweenFrames).toBe(true);
      }),
    );
  });

  test('are cut at the same places however the bytes come', () => {
    fc.assert(
      fc.property(stream, fc.integer({ min: 1, max: 40 }), (frames, stepBytes) => {
        const { pieces } = split(Buffer.concat(frames), stepBytes);
        const ends = new Set<number>();
        let position = 0;
        for (const piece of pieces) ends.add((position += piece.length));
        let end = 0;
        for (const bytes of frames) expect(ends).toContain((end += bytes.length));
        expect(position).toBe(end);
      }),
    );
  });

  test('that are cut off are known to be', () => {
    fc.assert(
      fc.property(stream, fc.double({ min: 0, max: 1, noNaN: true }), (frames, at) => {
        const last = frames.at(-1) ?? Buffer.alloc(0);
        const cut = 1 + Math.floor(at * (last.length - 2));
        const bytes = Buffer.concat([...frames.slice(0, -1), last.subarray(0, cut)]);
        expect(split(bytes, 7).isBetweenFrames).toBe(false);
      }),
    );
  });

  test('of incompressible blocks unpack one by one', () => {
    const contents = [randomBytes(300_000), randomBytes(512)];
    const { pieces } = split(Buffer.concat(contents.map((bytes) => zstdCompressSync(bytes))), 1e9);
    expect(pieces.map((piece) => zstdDecompressSync(piece))).toEqual(contents);
  });

  test('with anything else between them are refused, and nothing but our error comes out', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.integer({ min: 1, max: 9 }), (bytes, stepBytes) => {
        try {
          split(Buffer.from(bytes), stepBytes);
        } catch (error) {
          expect(error).toMatchObject({ code: 'INPUT_MALFORMED' });
        }
      }),
    );
    expect(() => split(Buffer.concat([zstdCompressSync(Buffer.alloc(9)), Buffer.alloc(4)]), 100)).toThrow(
      /does not begin like one/,
    );
    // A block of the reserved type 3.
    expect(() => split(Buffer.from('28b52ffd2000070000', 'hex'), 100)).toThrow(/reserved type/);
  });
});
