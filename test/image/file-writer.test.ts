import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { allocateAligned } from '#src/image/aligned-memory.ts';
import { FileWriter } from '#src/image/file-writer.ts';

const CHUNK_BYTES = 64 * 1024;
/** A file system in memory, which may know no direct writes; the other one is that of the temporary directory. */
const MEMORY = '/dev/shm';

describe.each([tmpdir(), ...(existsSync(MEMORY) ? [MEMORY] : [])])('a file written in %s', (parent) => {
  let directory: string;
  let count = 0;
  const newPath = () => join(directory, String((count += 1)));

  beforeAll(async () => {
    directory = await mkdtemp(join(parent, 'latchkey-writer-'));
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  test('is what was given, from any memory and in any pieces', async () => {
    const piece = fc.record({
      sizeBytes: fc.oneof(
        fc.constant(CHUNK_BYTES),
        fc.constant(4096),
        fc.integer({ min: 0, max: CHUNK_BYTES }),
      ),
      isAligned: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 12 }), fc.boolean(), async (pieces, isLarge) => {
        const path = newPath();
        const writer = new FileWriter(path, isLarge);
        const writes: unknown[] = [];
        const expected = pieces.map(({ sizeBytes, isAligned }) => {
          const content = randomBytes(sizeBytes);
          const chunk = isAligned
            ? allocateAligned(CHUNK_BYTES, 1)[0]!.subarray(0, sizeBytes)
            : new Uint8Array(sizeBytes);
          chunk.set(content);
          writes.push(writer.write(chunk));
          return content;
        });
        await Promise.all(writes);
        await writer.close();
        expect((await readFile(path)).equals(Buffer.concat(expected))).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  test('is gone when it is discarded in the middle of a write', async () => {
    const path = newPath();
    const writer = new FileWriter(path, true);
    for (const chunk of allocateAligned(CHUNK_BYTES, 4)) void writer.write(chunk);
    await writer.discard();
    expect(existsSync(path)).toBe(false);
  });

  test('takes the place of no other', async () => {
    const path = newPath();
    await new FileWriter(path, true).close();
    expect(() => new FileWriter(path, true)).toThrow(
      expect.objectContaining({ code: 'STORAGE_FAILED' }) as Error,
    );
  });
});
