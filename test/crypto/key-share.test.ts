import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { combineKeyShares, formatKeyShare, parseKeyShare, splitKey } from '#src/crypto/key-share.ts';

const key = new Uint8Array(randomBytes(32));

/** Multiplication in GF(2^8) with AES's polynomial, bit by bit: none of the tables of the package. */
function times(left: number, right: number): number {
  let product = 0;
  for (let [a, b] = [left, right]; b > 0; b >>= 1) {
    if ((b & 1) === 1) product ^= a;
    a = (a << 1) ^ (a & 0x80 ? 0x11b : 0);
  }
  return product;
}

function inverse(value: number): number {
  for (let other = 1; other < 256; other += 1) if (times(value, other) === 1) return other;
  throw new RangeError('zero has none');
}

/** The value at zero of the polynomial through the shares' points. */
function interpolate(shares: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from({ length: 32 }, (_, index) =>
    shares.reduce((sum, share) => {
      const x = share[32] ?? 0;
      const weight = shares
        .map((other) => other[32] ?? 0)
        .filter((other) => other !== x)
        .reduce((product, other) => times(product, times(other, inverse(other ^ x))), 1);
      return sum ^ times(share[index] ?? 0, weight);
    }, 0),
  );
}

describe('shares of a key', () => {
  it('give the key in every selection that is large enough, also written down and read again', async () => {
    const shares = (await splitKey(key, { shares: 5, threshold: 3 })).map(formatKeyShare).map(parseKeyShare);
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(shares, { minLength: 3 }), async (some) => {
        expect(await combineKeyShares(some)).toEqual(key);
        // As anybody can compute it who has the shares and no Latchkey.
        expect(interpolate(some.slice(0, 3).map(({ share }) => share))).toEqual(key);
      }),
      { numRuns: 50 },
    );
  });

  it('are refused when they are too few, given twice or of two sets', async () => {
    const [one, two, three] = await splitKey(key, { shares: 3, threshold: 3 });
    const [other] = await splitKey(key, { shares: 3, threshold: 3 });
    await expect(combineKeyShares([one!, two!])).rejects.toMatchObject({ code: 'KEY_INVALID' });
    await expect(combineKeyShares([one!, two!, one!])).rejects.toThrow('given before');
    await expect(combineKeyShares([one!, two!, other!])).rejects.toThrow('another set');
    await expect(combineKeyShares([])).rejects.toMatchObject({ code: 'KEY_INVALID' });
    expect(await combineKeyShares([three!, one!, two!])).toEqual(key);
  });

  it('are random: the same byte of the same key is spread over all values', async () => {
    const seen = new Set<number>();
    for (let round = 0; round < 2000; round += 1) {
      const [one] = await splitKey(new Uint8Array(32), { shares: 2, threshold: 2 });
      seen.add(one!.share[0] ?? -1);
    }
    expect(seen.size).toBeGreaterThan(240);
  });

  it('are read however a person writes them', async () => {
    const [share] = await splitKey(key, { shares: 2, threshold: 2 });
    const text = formatKeyShare(share!);
    expect(text).toMatch(/^LKS(?:-[0-9A-HJKMNP-TV-Z]{6}){12}$/);
    for (const written of [text.toLowerCase(), text.replaceAll('-', ' '), text.replaceAll('0', 'o')]) {
      expect(parseKeyShare(written)).toEqual(share);
    }
  });

  it('show every wrong character before anything is computed, and never themselves', async () => {
    const [share] = await splitKey(key, { shares: 2, threshold: 2 });
    const text = formatKeyShare(share!);
    for (let index = 4; index < text.length; index += 1) {
      if (text[index] === '-') continue;
      const wrong = text.slice(0, index) + (text[index] === '7' ? '8' : '7') + text.slice(index + 1);
      expect(() => parseKeyShare(wrong)).toThrow('a character is wrong');
    }
    for (const wrong of [
      '',
      'LKS-',
      text.slice(0, -1),
      `${text}A`,
      'x'.repeat(300),
      text.replace('LKS', 'LK'),
    ]) {
      expect(() => parseKeyShare(wrong)).toThrow(expect.objectContaining({ code: 'KEY_INVALID' }) as Error);
    }
  });

  it('keep their form: what was written down once is read for ever', () => {
    const share = Uint8Array.from({ length: 33 }, (_, index) => index + 1);
    const written = formatKeyShare({ setId: 'a1b2c3d4e5f6', threshold: 3, number: 2, share });
    expect(written).toBe(VECTOR);
    expect(parseKeyShare(VECTOR)).toEqual({ setId: 'a1b2c3d4e5f6', threshold: 3, number: 2, share });
  });
});

const VECTOR = 'LKS-06GV5G-YMWQV0-60G108-1G8186-0W40J2-GB1G6G-W3RG24-91650N-2RBHG6-8T3CE1-T7GZ40-GKPC0V';
