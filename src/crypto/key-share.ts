/**
 * Shares of a key (Shamir's secret sharing over GF(2^8)): any of them, as many as the threshold says, give the key, and
 * fewer tell nothing about it. A share is written down as `LKS-` and 72 symbols of Crockford's base32: version, set, threshold,
 * number, the share itself, and a checksum; so a typing error, a share of another set and one that is given twice
 * are each found before anything is computed.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { combine, split } from 'shamir-secret-sharing';
import { decodeSymbols, encodeSymbols, foldTyped } from '#src/base/base32.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_KEY_SHARES, MAX_KEY_SHARE_TEXT } from '#src/base/limits.ts';

export const SHARED_KEY_BYTES = 32;

const VERSION = 1;
const SET_BYTES = 6;
/** One byte more than the key: where on the polynomial it is. */
const SHARE_BYTES = SHARED_KEY_BYTES + 1;
const HEADER_BYTES = 1 + SET_BYTES + 2;
const CHECKSUM_BYTES = 3;
const TOTAL_BYTES = HEADER_BYTES + SHARE_BYTES + CHECKSUM_BYTES;
const SYMBOLS = (TOTAL_BYTES * 8) / 5;
const GROUP_SYMBOLS = 6;
/** `LKS` after L has been read as 1. */
const FOLDED_PREFIX = '1KS';

export interface KeyShare {
  /** Which shares belong together, in hexadecimal. */
  readonly setId: string;
  /** How many of the set give the key. */
  readonly threshold: number;
  /** From 1 on. */
  readonly number: number;
  /** Secret. */
  readonly share: Uint8Array;
}

/** How a key is shared. */
export interface ShareTerms {
  readonly shares: number;
  readonly threshold: number;
}

/** Splits a key into a new set of shares. */
export async function splitKey(key: Uint8Array, { shares, threshold }: ShareTerms): Promise<KeyShare[]> {
  if (key.length !== SHARED_KEY_BYTES) throw new TypeError(`a shared key has ${SHARED_KEY_BYTES} bytes`);
  if (threshold < 2 || threshold > shares || shares > MAX_KEY_SHARES) throw new TypeError('no such shares');
  const setId = randomBytes(SET_BYTES).toString('hex');
  // The package takes nothing but a plain Uint8Array.
  const split32 = await split(new Uint8Array(key), shares, threshold);
  return split32.map((share, index) => ({ setId, threshold, number: index + 1, share }));
}

/** Writes a share for a person. */
export function formatKeyShare({ setId, threshold, number, share }: KeyShare): string {
  const content = Buffer.concat([
    Uint8Array.of(VERSION),
    Buffer.from(setId, 'hex'),
    Uint8Array.of(threshold, number),
    share,
  ]);
  const symbols = encodeSymbols(Buffer.concat([content, checksum(content)]));
  return `LKS-${(symbols.match(new RegExp(`.{${GROUP_SYMBOLS}}`, 'gu')) ?? []).join('-')}`;
}

/**
 * Reads what a person typed: case, spaces and dashes do not matter, O is 0, I and L are 1.
 * @throws LatchkeyError KEY_INVALID; the message never repeats the share
 */
export function parseKeyShare(text: string): KeyShare {
  if (text.length > MAX_KEY_SHARE_TEXT) throw malformed('it is too long');
  const folded = foldTyped(text);
  if (!folded.startsWith(FOLDED_PREFIX)) throw malformed('it does not begin with LKS-');
  const symbols = folded.slice(FOLDED_PREFIX.length);
  if (symbols.length !== SYMBOLS)
    throw malformed(`it has ${symbols.length} characters after LKS- instead of ${SYMBOLS}`);
  const bytes = decodeSymbols(symbols);
  if (bytes === null) throw malformed('it has a character that shares do not use');
  const content = bytes.subarray(0, HEADER_BYTES + SHARE_BYTES);
  if (!timingSafeEqual(checksum(content), bytes.subarray(content.length))) {
    throw malformed('its check characters do not fit, so a character is wrong');
  }
  if (content[0] !== VERSION) throw malformed('it was made by a newer version of Latchkey');
  const [threshold = 0, number = 0] = content.subarray(1 + SET_BYTES);
  if (threshold < 2 || number < 1) throw malformed('its numbers make no sense');
  return {
    setId: Buffer.from(content.subarray(1, 1 + SET_BYTES)).toString('hex'),
    threshold,
    number,
    share: new Uint8Array(content.subarray(HEADER_BYTES)),
  };
}

/**
 * Gives the key behind shares of one set; of shares that were tampered with, another key.
 * @throws LatchkeyError KEY_INVALID when they are of different sets, not different shares, or too few
 */
export async function combineKeyShares(shares: readonly KeyShare[]): Promise<Uint8Array> {
  const [first] = shares;
  if (first === undefined) throw malformed('there is none');
  if (shares.some(({ setId }) => setId !== first.setId)) throw malformed('it belongs to another set');
  // The last byte is where on the polynomial a share is; two at one place cannot be combined.
  const places = new Set(shares.map(({ share }) => share.at(-1)));
  if (places.size !== shares.length || places.has(0)) throw malformed('it was given before');
  if (shares.length < first.threshold) throw malformed(`${first.threshold} are needed`);
  return combine(shares.slice(0, first.threshold).map(({ share }) => share));
}

function checksum(content: Uint8Array): Uint8Array {
  return createHash('sha256')
    .update('latchkey/key-share')
    .update(content)
    .digest()
    .subarray(0, CHECKSUM_BYTES);
}

function malformed(reason: string): LatchkeyError {
  return new LatchkeyError('KEY_INVALID', `this share cannot be used: ${reason}`, {
    hint: 'copy the whole share, from LKS- to the last group',
  });
}
