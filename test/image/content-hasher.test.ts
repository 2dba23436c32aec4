import { createHash } from 'node:crypto';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_ZSTD_WINDOW_LOG } from '#src/base/limits.ts';
import { type ContentDigests, createContentHasher } from '#src/image/content-hasher.ts';
import type { Compression } from '#src/oci/media-types.ts';

const pack: Record<Compression, (content: Uint8Array) => Uint8Array> = {
  none: (content) => content,
  gzip: (content) => gzipSync(content),
  zstd: (content) => zstdCompressSync(content),
};
const CHECKSUM = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };
const PACKED = ['gzip', 'zstd'] as const;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Hashes as a pass does: the next chunk is given before the last one is done. */
async function hash(
  bytes: Uint8Array,
  compression: Compression,
  { tailBytes = 0, stepBytes = 1 << 20, isLarge = false } = {},
): Promise<ContentDigests> {
  const hasher = createContentHasher({ compression, tailBytes, isLarge });
  try {
    const updates: Promise<void>[] = [];
    for (let start = 0; start < bytes.length; start += stepBytes) {
      updates.push(Promise.resolve(hasher.update(bytes.subarray(start, start + stepBytes))));
    }
    await Promise.all(updates);
    return await hasher.finish();
  } finally {
    hasher.close();
  }
}

const contents = fc.array(fc.uint8Array({ maxLength: 3000, minLength: 1 }), { minLength: 1, maxLength: 4 });
const steps = fc.integer({ min: 1, max: 700 });

describe('the hash of what a layer contains', () => {
  test.each(['none', ...PACKED] as const)(
    'is the same however the bytes come and the parts are packed (%s)',
    async (compression) => {
      await fc.assert(
        fc.asyncProperty(
          contents,
          steps,
          fc.nat(600),
          fc.boolean(),
          async (parts, stepBytes, tail, isLarge) => {
            const content = Buffer.concat(parts);
            const packed = Buffer.concat(parts.map(pack[compression]));
            const tailBytes = Math.min(tail, content.length);
            const digests = await hash(packed, compression, { tailBytes, stepBytes, isLarge });
            const cut = content.length - tailBytes;
            expect(digests.whole).toBe(sha256(content));
            expect(digests.beforeTail).toBe(sha256(content.subarray(0, cut)));
            expect(Buffer.from(digests.tail).equals(content.subarray(cut))).toBe(true);
          },
        ),
        { numRuns: 40 },
      );
    },
  );

  test.each(PACKED)('is refused for a stream that is cut off (%s)', async (compression) => {
    await fc.assert(
      fc.asyncProperty(
        contents,
        steps,
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (parts, stepBytes, at) => {
          const last = pack[compression](parts.at(-1) ?? new Uint8Array(0));
          const cut = last.subarray(0, 1 + Math.floor(at * (last.length - 2)));
          const packed = Buffer.concat([...parts.slice(0, -1).map(pack[compression]), cut]);
          await expect(hash(packed, compression, { stepBytes })).rejects.toMatchObject({
            code: 'INPUT_MALFORMED',
          });
        },
      ),
      { numRuns: 40 },
    );
  });

  test.each([
    ['gzip', gzipSync],
    ['zstd', (content: Uint8Array) => zstdCompressSync(content, CHECKSUM)],
  ] as const)(
    'is refused, or that of the same content, when a byte is changed (%s)',
    async (compression, packed) => {
      await fc.assert(
        fc.asyncProperty(
          fc.uint8Array({ minLength: 100, maxLength: 2000 }),
          fc.nat(),
          fc.integer({ min: 1, max: 255 }),
          async (content, where, change) => {
            const bytes = Buffer.from(packed(content));
            const at = where % bytes.length;
            bytes.writeUInt8(bytes.readUInt8(at) ^ change, at);
            const result = await hash(bytes, compression, { stepBytes: 333 }).catch(
              (error: unknown) => error,
            );
            // A time stamp, for one, changes nothing of what is unpacked.
            const expected =
              result instanceof Error
                ? { code: expect.stringMatching(/^(INPUT_MALFORMED|LIMIT_EXCEEDED)$/) as string }
                : { whole: sha256(content) };
            expect(result).toMatchObject(expected);
          },
        ),
        { numRuns: 200 },
      );
    },
  );

  test.each(PACKED)('is refused with zeros or text behind the end (%s)', async (compression) => {
    for (const behind of [Buffer.alloc(1), Buffer.alloc(512), Buffer.from('garbage')]) {
      for (const stepBytes of [1, 100, 1 << 20]) {
        const packed = Buffer.concat([pack[compression](Buffer.from('content')), behind]);
        await expect(hash(packed, compression, { stepBytes })).rejects.toMatchObject({
          code: 'INPUT_MALFORMED',
        });
      }
    }
  });

  test('leaves out frames that zstd decoders skip', async () => {
    const skippable = Buffer.from('502a4d180400000001020304', 'hex');
    const content = Buffer.from('content');
    for (const packed of [
      [skippable, zstdCompressSync(content)],
      [zstdCompressSync(content), skippable],
      [zstdCompressSync(content.subarray(0, 3)), skippable, zstdCompressSync(content.subarray(3))],
    ]) {
      expect((await hash(Buffer.concat(packed), 'zstd')).whole).toBe(sha256(content));
    }
  });

  test('is refused for a zstd window that takes too much memory', async () => {
    const content = Buffer.alloc(4096, 'x');
    const largest = Buffer.from(
      zstdCompressSync(content, {
        params: { [constants.ZSTD_c_contentSizeFlag]: 0, [constants.ZSTD_c_windowLog]: 10 },
      }),
    );
    // The window descriptor (RFC 8878, section 3.1.1.1.2) of a frame without a content size.
    largest.writeUInt8((MAX_ZSTD_WINDOW_LOG - 10) << 3, 5);
    expect((await hash(largest, 'zstd')).whole).toBe(sha256(content));
    largest.writeUInt8((MAX_ZSTD_WINDOW_LOG + 1 - 10) << 3, 5);
    await expect(hash(largest, 'zstd')).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });
});
