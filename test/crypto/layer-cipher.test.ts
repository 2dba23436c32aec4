import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LayerDecryptor, LayerEncryptor, generateLayerKey } from '#src/crypto/layer-cipher.ts';

const VECTORS = join(import.meta.dirname, '..', 'vectors');

interface CtrVector {
  readonly key: string;
  readonly counter: string;
  readonly plaintext: string;
  readonly ciphertext: string;
}

const nist = JSON.parse(readFileSync(join(VECTORS, 'nist-sp800-38a-ctr-aes256.json'), 'utf8')) as CtrVector;

/** Cuts bytes at arbitrary places. */
function pieces(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

function encrypt(key: ReturnType<typeof generateLayerKey>, chunks: readonly Uint8Array[]) {
  const encryptor = new LayerEncryptor(key);
  const ciphertext = Buffer.concat(chunks.map((chunk) => encryptor.update(chunk)));
  return { ciphertext, mac: encryptor.finish() };
}

describe('the layer cipher', () => {
  const key = { symmetricKey: Buffer.from(nist.key, 'hex'), nonce: Buffer.from(nist.counter, 'hex') };

  test('is AES-256-CTR with the nonce as the whole counter block (NIST SP 800-38A F.5.5)', () => {
    const { ciphertext } = encrypt(key, [Buffer.from(nist.plaintext, 'hex')]);
    expect(ciphertext.toString('hex')).toBe(nist.ciphertext);
  });

  test('authenticates the ciphertext with the same key', () => {
    const { ciphertext, mac } = encrypt(key, [Buffer.from('layer')]);
    const expected = createHmac('sha256', key.symmetricKey).update(ciphertext).digest();
    expect(mac.equals(expected)).toBe(true);
  });

  test('gives the same bytes however the layer is cut', () => {
    const bytes = fc.uint8Array({ maxLength: 300 });
    const cuts = fc.array(fc.nat(), { maxLength: 8 });
    fc.assert(
      fc.property(bytes, cuts, cuts, (plaintext, encryptCuts, decryptCuts) => {
        const layerKey = generateLayerKey();
        const whole = encrypt(layerKey, [plaintext]);
        const cut = encrypt(layerKey, pieces(plaintext, encryptCuts));
        expect(cut.ciphertext.equals(whole.ciphertext)).toBe(true);
        expect(cut.mac.equals(whole.mac)).toBe(true);
        const decryptor = new LayerDecryptor(layerKey, { mac: whole.mac });
        const decrypted = pieces(whole.ciphertext, decryptCuts).map((chunk) => decryptor.update(chunk));
        decryptor.verify();
        expect(Buffer.concat(decrypted).equals(plaintext)).toBe(true);
      }),
    );
  });

  test('never verifies with one bit flipped in ciphertext or MAC', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.nat(), (plaintext, bit) => {
        const layerKey = generateLayerKey();
        const { ciphertext, mac } = encrypt(layerKey, [plaintext]);
        const all = Buffer.concat([ciphertext, mac]);
        const place = bit % (all.length * 8);
        all.writeUInt8(all.readUInt8(place >> 3) ^ (1 << (place & 7)), place >> 3);
        const decryptor = new LayerDecryptor(layerKey, { mac: all.subarray(ciphertext.length) });
        decryptor.update(all.subarray(0, ciphertext.length));
        expect(() => decryptor.verify()).toThrow(
          expect.objectContaining({ code: 'CRYPTO_AUTHENTICATION_FAILED' }),
        );
      }),
    );
  });

  test('does not verify a layer that lost its tail, nor a MAC of another length', () => {
    const layerKey = generateLayerKey();
    const { ciphertext, mac } = encrypt(layerKey, [Buffer.alloc(100)]);
    const short = new LayerDecryptor(layerKey, { mac });
    short.update(ciphertext.subarray(0, 99));
    expect(() => short.verify()).toThrow(/changed after/);
    const stub = new LayerDecryptor(layerKey, { mac: mac.subarray(0, 31) });
    stub.update(ciphertext);
    expect(() => stub.verify()).toThrow(/changed after/);
  });
});
