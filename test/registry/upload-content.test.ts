import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createUploadContent } from '#src/registry/upload-content.ts';
import { BLOB, CONTENT } from '../fakes/fake-repository.ts';
import { bytesOf, streamOf } from '../fakes/image.ts';

function create(open: () => AsyncIterable<Uint8Array>) {
  return createUploadContent(BLOB, open, 'test', { signal: undefined, onPosition: () => undefined });
}

describe('upload content', () => {
  test('any ranges in any order are the true bytes; those that follow each other are read once', async () => {
    const place = fc.integer({ min: 0, max: CONTENT.length });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(place, place), { maxLength: 6 }), async (ranges) => {
        const content = create(() => streamOf(CONTENT));
        for (const [left, right] of ranges) {
          const [start, end] = [Math.min(left, right), Math.max(left, right)];
          expect((await bytesOf(content.range(start, end))).equals(CONTENT.subarray(start, end))).toBe(true);
        }
        await content.close();
      }),
      { numRuns: 20 },
    );
    let opened = 0;
    const content = create(() => {
      opened += 1;
      return streamOf(CONTENT);
    });
    for (let start = 0; start < CONTENT.length; start += 1_000_000) {
      await bytesOf(content.range(start, start + 1_000_000));
    }
    expect(opened).toBe(1);
  });

  test('a range that is still waiting takes nothing from the one that follows', async () => {
    let release: (() => void) | undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const content = create(async function* () {
      yield CONTENT.subarray(0, 1000);
      yield CONTENT.subarray(1000, 2000);
      await gate;
      yield CONTENT.subarray(2000);
    });
    const cut = content.range(0, CONTENT.length);
    await cut.next();
    const waiting = cut.next();
    const following = bytesOf(content.range(1000, CONTENT.length));
    release?.();
    expect((await following).equals(CONTENT.subarray(1000))).toBe(true);
    expect(await waiting).toEqual({ done: true, value: undefined });
  });

  test('what fails is kept, also in what is only read over', async () => {
    const wrong = Buffer.from(CONTENT);
    wrong[0]! ^= 1;
    const content = create(() => streamOf(wrong));
    await expect(bytesOf(content.range(2_000_000, CONTENT.length))).rejects.toMatchObject({
      code: 'INPUT_DIGEST_MISMATCH',
    });
    expect(content.failure?.error).toMatchObject({ code: 'INPUT_DIGEST_MISMATCH' });
  });
});
