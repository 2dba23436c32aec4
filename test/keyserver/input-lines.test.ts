import { Readable } from 'node:stream';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { InputLines } from '../../keyserver/input-lines.ts';

const MAX_BYTES = 1000;

function linesOf(chunks: readonly Uint8Array[]): InputLines {
  return new InputLines(Readable.from(chunks.map((chunk) => Buffer.from(chunk))), MAX_BYTES);
}

it('are those of the input, however it comes (property)', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 30 })), async (chunks) => {
      const lines = linesOf(chunks);
      const expected = Buffer.concat(chunks).toString('latin1').split('\n');
      for (const line of expected) expect((await lines.next()).toString('latin1')).toBe(line);
      expect(await lines.next()).toHaveLength(0);
    }),
  );
});

it('may be as long as they may be, and no longer', async () => {
  const long = Buffer.alloc(MAX_BYTES, 'x');
  expect(await linesOf([long, Buffer.from('\n')]).next()).toEqual(long);
  await expect(linesOf([long, Buffer.from('xx'), Buffer.from('\n')]).next()).rejects.toMatchObject({
    code: 'LIMIT_EXCEEDED',
  });
});

it('are read when they are asked for, and no further', async () => {
  let isSecondAsked = false;
  async function* input(): AsyncGenerator<Buffer> {
    yield Buffer.from('proof\n');
    isSecondAsked = true;
    yield Buffer.from('taken\n');
  }
  const lines = new InputLines(input(), MAX_BYTES);
  expect((await lines.next()).toString()).toBe('proof');
  expect(isSecondAsked).toBe(false);
  expect((await lines.next()).toString()).toBe('taken');
});
