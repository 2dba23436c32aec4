import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { digestOf } from '#src/oci/digest.ts';
import { collectBytes, verifiedStream } from '#src/store/verified-stream.ts';
import { bytesOf, streamOf } from '../fakes/image.ts';

const chunkSize = fc.integer({ min: 1, max: 20 });

describe('verifiedStream', () => {
  test('true content passes, however it is cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array(), chunkSize, async (bytes, size) => {
        const descriptor = { mediaType: 'x', digest: digestOf(bytes), size: bytes.length };
        let reportedBytes = 0;
        const options = { onBytes: (delta: number) => (reportedBytes += delta) };
        const passed = await bytesOf(verifiedStream(streamOf(bytes, size), descriptor, 'here', options));
        expect(passed.equals(bytes)).toBe(true);
        expect(reportedBytes).toBe(bytes.length);
      }),
    );
  });

  test('changed, shortened or lengthened content never reaches its end', async () => {
    const change = fc.constantFrom('flip', 'cut', 'grow');
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1 }),
        chunkSize,
        change,
        fc.nat(),
        async (bytes, size, how, at) => {
          const descriptor = { mediaType: 'x', digest: digestOf(bytes), size: bytes.length };
          const position = at % bytes.length;
          let changed = Buffer.from(bytes);
          if (how === 'flip') changed[position]! ^= 1;
          else if (how === 'cut') changed = changed.subarray(0, position);
          else changed = Buffer.concat([changed, Buffer.from([at & 0xff])]);
          let passedBytes = 0;
          let error: unknown;
          try {
            for await (const chunk of verifiedStream(streamOf(changed, size), descriptor, 'here')) {
              passedBytes += chunk.length;
            }
          } catch (thrown) {
            error = thrown;
          }
          const expected = how === 'cut' ? 'INPUT_TRUNCATED' : 'INPUT_DIGEST_MISMATCH';
          expect(error).toMatchObject({ code: expected });
          expect(passedBytes).toBeLessThan(bytes.length);
        },
      ),
    );
  });

  test('a blob is collected up to its limit', async () => {
    const bytes = Buffer.from('config');
    const descriptor = { mediaType: 'x', digest: digestOf(bytes), size: bytes.length };
    expect(Buffer.from(await collectBytes(streamOf(bytes), descriptor, 6))).toEqual(bytes);
    await expect(collectBytes(streamOf(bytes), descriptor, 5)).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
  });
});
