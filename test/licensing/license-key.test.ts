import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  LICENSE_KEY_BYTES,
  formatLicenseKey,
  licenseKeyDigest,
  licenseKeyLast4,
  parseLicenseKey,
} from '#src/licensing/license-key.ts';

const bytes = fc.uint8Array({ minLength: LICENSE_KEY_BYTES, maxLength: LICENSE_KEY_BYTES });

describe('license keys', () => {
  it('have one spelling', () => {
    // SHA-256 of 20 zero bytes begins with de47c, in base32 VS3W.
    expect(formatLicenseKey(new Uint8Array(LICENSE_KEY_BYTES))).toBe(
      'LK-000000-000000-000000-000000-000000-00VS3W',
    );
    expect(formatLicenseKey(randomBytes(LICENSE_KEY_BYTES))).toMatch(/^LK(-[0-9A-HJKMNP-TV-Z]{6}){6}$/);
  });

  it('are read back whatever people do to case, groups and look-alikes', () => {
    fc.assert(
      fc.property(bytes, fc.infiniteStream(fc.nat(5)), (random, choices) => {
        const key = formatLicenseKey(random);
        const pick = () => choices.next().value as number;
        const typed = Array.from(key)
          .map((symbol) => {
            const choice = pick();
            if (symbol === '-') return ['-', '', ' ', ' - ', '–', '\t'][choice];
            if (symbol === '0' && choice > 2) return choice > 3 ? 'o' : 'O';
            if (symbol === '1' && choice > 1) return ['i', 'I', 'l', 'L'][choice - 2];
            return choice > 2 ? symbol.toLowerCase() : symbol;
          })
          .join('');
        expect(parseLicenseKey(` ${typed}\n`)).toBe(key);
      }),
    );
  });

  it('notice a wrong character anywhere', () => {
    const key = formatLicenseKey(randomBytes(LICENSE_KEY_BYTES));
    for (let index = 3; index < key.length; index += 1) {
      if (key[index] === '-') continue;
      const changed = key.slice(0, index) + (key[index] === 'X' ? 'Y' : 'X') + key.slice(index + 1);
      expect(() => parseLicenseKey(changed)).toThrow(/wrong/);
    }
  });

  it.each([
    ['nothing', ''],
    ['a prefix alone', 'LK-'],
    ['a word', 'hello'],
    ['a short key', 'LK-123'],
    ['a letter outside the alphabet', `LK-${'U'.repeat(36)}`],
    ['one symbol too many', `LK-${'0'.repeat(37)}`],
    ['a symbol of two units among the check characters', `LK-${'0'.repeat(34)}𐀀`],
    ['a page of text', 'X'.repeat(10_000)],
  ])('refuse %s', (_name, text) => {
    expect(() => parseLicenseKey(text)).toThrow(
      expect.objectContaining({ code: 'INPUT_LICENSE_KEY_MALFORMED' }) as Error,
    );
  });

  it('never throw anything else', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (text) => {
        try {
          parseLicenseKey(`LK-${text}`);
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
          if (text.length > 8) expect((error as Error).message).not.toContain(text);
        }
      }),
    );
  });

  it('are stored as a keyed digest and four symbols', () => {
    const key = formatLicenseKey(randomBytes(LICENSE_KEY_BYTES));
    const digest = licenseKeyDigest(key, Buffer.alloc(32, 1));
    expect(digest).toMatch(/^[0-9a-f]{64}$/);
    expect(licenseKeyDigest(key, Buffer.alloc(32, 2))).not.toBe(digest);
    expect(licenseKeyLast4(key)).toBe(key.slice(-4));
  });
});
