import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { HELD_BACK_BYTES, LAYER_HEAD_BYTES } from '#src/base/limits.ts';
import { LayerDecryptor, generateLayerKey } from '#src/crypto/layer-cipher.ts';
import { newProgress } from '../../../shim/agent/layer-progress.ts';
import { decryptStream, readHead } from '../../../shim/agent/layer-stream.ts';
import { type EncryptedBytes, encryptBytes } from '../../fakes/encrypted-image.ts';
import { beside, makePipe } from '../../fakes/pipe.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const SIZES = [0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 69_632, 131_072, 200_000];

let names = 0;

function freshPath(): string {
  names += 1;
  return join(directory(), String(names));
}

/** Head and stream from one open file to another, as the worker does it; closes both. */
function decrypt(input: number, output: number, { key, mac }: Pick<EncryptedBytes, 'key' | 'mac'>): number {
  try {
    return decryptStream(
      { input, output },
      readHead(input, newProgress()),
      new LayerDecryptor(key, { mac }),
      newProgress(),
    );
  } finally {
    closeSync(input);
    closeSync(output);
  }
}

/** Through files: fast, for what does not depend on pipes. */
function throughFiles(encrypted: EncryptedBytes): {
  written: Buffer;
  size: number | undefined;
  error: unknown;
} {
  const [from, to] = [freshPath(), freshPath()];
  writeFileSync(from, encrypted.ciphertext);
  try {
    const size = decrypt(openSync(from, 'r'), openSync(to, 'w'), encrypted);
    return { written: readFileSync(to), size, error: undefined };
  } catch (error) {
    return { written: readFileSync(to), size: undefined, error };
  }
}

/** Through two pipes, the ciphertext in pieces of the given sizes, each written by a process of its own. */
async function throughPipes(encrypted: EncryptedBytes, pieces: readonly number[]): Promise<Buffer> {
  const [ciphertext, plaintext] = [freshPath(), freshPath()];
  writeFileSync(ciphertext, encrypted.ciphertext);
  const [from, to] = [makePipe(freshPath()), makePipe(freshPath())];
  const fed = beside(
    'exec < "$1" > "$2"; shift 2; for size; do head -c "$size"; done; cat',
    ciphertext,
    from,
    ...pieces.map(String),
  );
  const drained = beside('cat "$1" > "$2"', to, plaintext);
  const size = decrypt(openSync(from, 'r'), openSync(to, 'w'), encrypted);
  await Promise.all([fed, drained]);
  expect(size).toBe(encrypted.ciphertext.length);
  return readFileSync(plaintext);
}

describe('an authentic layer', () => {
  test.each(SIZES)('of %i bytes comes out as it went in', async (size) => {
    const plaintext = randomBytes(size);
    const encrypted = encryptBytes(plaintext);
    expect(throughFiles(encrypted)).toEqual({ written: plaintext, size, error: undefined });
    expect((await throughPipes(encrypted, [])).equals(plaintext)).toBe(true);
  });

  test('does not depend on the pieces in which it arrives', async () => {
    const pieces = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(pieces, fc.integer({ min: 0, max: 5000 }), async (sizes, rest) => {
        const plaintext = randomBytes(sizes.reduce((sum, size) => sum + size, rest));
        const written = await throughPipes(encryptBytes(plaintext), sizes);
        expect(written.equals(plaintext)).toBe(true);
      }),
      { numRuns: 15 },
    );
  });

  test('arrives byte by byte', async () => {
    const plaintext = randomBytes(300);
    const written = await throughPipes(encryptBytes(plaintext), Array<number>(300).fill(1));
    expect(written.equals(plaintext)).toBe(true);
  });

  test('waits on pipes that somebody has made non-blocking, and finishes short writes', async () => {
    const plaintext = randomBytes(400_000);
    const encrypted = encryptBytes(plaintext);
    const [ciphertext, result] = [freshPath(), freshPath()];
    writeFileSync(ciphertext, encrypted.ciphertext);
    const [from, to, ready] = [makePipe(freshPath()), makePipe(freshPath()), makePipe(freshPath())];
    const input = openSync(from, constants.O_RDONLY | constants.O_NONBLOCK);
    const fed = beside(
      'exec > "$2"; : > "$3"; sleep 0.2; head -c 5000 "$1"; sleep 0.2; tail -c +5001 "$1"',
      ciphertext,
      from,
      ready,
    );
    // Opening waits for the feeder, which holds the other end of the input by then.
    closeSync(openSync(ready, 'r'));
    expect(() => readSync(input, Buffer.alloc(1))).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
    const output = openSync(to, constants.O_RDWR | constants.O_NONBLOCK);
    const drained = beside(
      'exec < "$1"; sleep 0.5; dd bs=5000 count=100000 iflag=count_bytes,fullblock status=none > "$2"; cat >> "$2"',
      to,
      result,
    );
    expect(decrypt(input, output, encrypted)).toBe(plaintext.length);
    await Promise.all([fed, drained]);
    expect(readFileSync(result).equals(plaintext)).toBe(true);
  });
});

describe('a layer that is not authentic', () => {
  function expectHeldBack(encrypted: EncryptedBytes): void {
    const { written, error } = throughFiles(encrypted);
    expect(error).toMatchObject({ code: 'CRYPTO_AUTHENTICATION_FAILED' });
    expect(written.length).toBeLessThanOrEqual(Math.max(0, encrypted.ciphertext.length - HELD_BACK_BYTES));
  }

  test('keeps its tail when any bit was flipped', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200_000 }), fc.nat(), fc.nat(7), (size, place, bit) => {
        const encrypted = encryptBytes(randomBytes(size));
        encrypted.ciphertext[place % size]! ^= 1 << bit;
        expectHeldBack(encrypted);
      }),
      { numRuns: 50 },
    );
  });

  test('keeps its tail when it was cut anywhere', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200_000 }), fc.nat(), (size, place) => {
        const { key, mac, ciphertext } = encryptBytes(randomBytes(size));
        expectHeldBack({ key, mac, ciphertext: ciphertext.subarray(0, place % size) });
      }),
      { numRuns: 50 },
    );
  });

  test.each(SIZES)(
    'of %i bytes keeps its tail under another key, another MAC and with a byte more',
    (size) => {
      const encrypted = encryptBytes(randomBytes(size));
      expectHeldBack({ ...encrypted, key: generateLayerKey() });
      expectHeldBack({ ...encrypted, mac: randomBytes(32) });
      expectHeldBack({ ...encrypted, ciphertext: Buffer.concat([encrypted.ciphertext, Buffer.of(0)]) });
    },
  );

  test('comes through another nonce authentic, as the MAC is over the ciphertext: the digest is what refuses it', () => {
    const encrypted = encryptBytes(randomBytes(1000));
    const key = { ...encrypted.key, nonce: randomBytes(16) };
    expect(throughFiles({ ...encrypted, key }).size).toBe(1000);
  });
});

describe('the head', () => {
  test.each(SIZES)('of %i bytes is its first LAYER_HEAD_BYTES or all of it', (size) => {
    const path = freshPath();
    const bytes = randomBytes(size);
    writeFileSync(path, bytes);
    const input = openSync(path, 'r');
    expect(readHead(input, newProgress()).equals(bytes.subarray(0, LAYER_HEAD_BYTES))).toBe(true);
    closeSync(input);
  });
});

test('a reader that is gone ends the work', () => {
  const encrypted = encryptBytes(randomBytes(200_000));
  const [from, to] = [freshPath(), makePipe(freshPath())];
  writeFileSync(from, encrypted.ciphertext);
  const reader = openSync(to, constants.O_RDONLY | constants.O_NONBLOCK);
  const output = openSync(to, 'w');
  closeSync(reader);
  expect(() => decrypt(openSync(from, 'r'), output, encrypted)).toThrow(
    expect.objectContaining({ code: 'EPIPE' }),
  );
});
