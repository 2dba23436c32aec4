import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { LayerEncryptor, generateLayerKey } from '#src/crypto/layer-cipher.ts';
import { createSalt } from '#src/image/salt.ts';
import { GZIP_TAIL_BYTES, decryptPart, gzipUnpackedSize } from '../../../shim/agent/unpacked-size.ts';

const CONTENT = Buffer.alloc(123_456, 'ACME ');

describe('the unpacked size of a gzip layer', () => {
  test('is known from its end, salted or not, through the encryption', () => {
    const plain = gzipSync(CONTENT);
    const salted = Buffer.concat([plain, createSalt('gzip').stored]);
    for (const layer of [plain, salted]) {
      const key = generateLayerKey();
      const ciphertext = new LayerEncryptor(key).update(layer);
      const tail = ciphertext.subarray(-GZIP_TAIL_BYTES);
      expect(gzipUnpackedSize(decryptPart(key, layer.length - tail.length, tail))).toBe(CONTENT.length);
    }
  });

  test('is that of a layer that is as large as the salt, too', () => {
    const content = randomBytes(512);
    const salted = Buffer.concat([gzipSync(content, { level: 0 }), createSalt('gzip').stored]);
    expect(gzipUnpackedSize(salted)).toBe(512);
  });

  test('is some number for anything else: it only ever refuses', () => {
    for (const sizeBytes of [0, 1, 3, 4, 534, 535, 540]) {
      expect(gzipUnpackedSize(randomBytes(sizeBytes))).toBeGreaterThanOrEqual(0);
    }
  });

  test('is right at any offset, also where the counter overflows', () => {
    const key = { ...generateLayerKey(), nonce: Buffer.alloc(16, 255) };
    const ciphertext = new LayerEncryptor(key).update(CONTENT);
    for (const offset of [0, 1, 15, 16, 17, 4099]) {
      const part = decryptPart(key, offset, ciphertext.subarray(offset, offset + 100));
      expect(part.equals(CONTENT.subarray(offset, offset + 100))).toBe(true);
    }
  });
});
