/**
 * License keys: what a customer types once to enrol a node. `LK-` and 36 symbols of Crockford's base32
 * (no I, L, O, U), grouped by six: 160 random bits and 20 bits of their SHA-256, so that a typing error is
 * found before anything is sent. The server keeps only an HMAC and the last four symbols.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { decodeSymbols, encodeSymbols, foldTyped } from '#src/base/base32.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_LICENSE_KEY_TEXT } from '#src/base/limits.ts';

/** A license key in its one canonical spelling. */
declare const licenseKeyBrand: unique symbol;
export type LicenseKey = string & { readonly [licenseKeyBrand]: true };

/** 160 bits: guessing is hopeless even for all keys ever sold together. */
export const LICENSE_KEY_BYTES = 20;

const KEY_SYMBOLS = 32;
const CHECKSUM_SYMBOLS = 4;
const GROUP_SYMBOLS = 6;
/** `LK` after I and L have been read as 1. */
const FOLDED_PREFIX = '1K';

/** Spells a license key from 20 random bytes. */
export function formatLicenseKey(random: Uint8Array): LicenseKey {
  if (random.length !== LICENSE_KEY_BYTES) throw new TypeError(`a license key is ${LICENSE_KEY_BYTES} bytes`);
  return spell(encodeSymbols(random) + checksum(random));
}

/**
 * Reads what a person typed: case, spaces and dashes do not matter, O is 0, I and L are 1.
 * @returns the canonical spelling
 * @throws LatchkeyError INPUT_LICENSE_KEY_MALFORMED; the message never repeats the key
 */
export function parseLicenseKey(text: string): LicenseKey {
  if (text.length > MAX_LICENSE_KEY_TEXT) throw malformed('it is too long');
  const folded = foldTyped(text);
  if (!folded.startsWith(FOLDED_PREFIX)) throw malformed('it does not begin with LK-');
  const symbols = folded.slice(FOLDED_PREFIX.length);
  if (symbols.length !== KEY_SYMBOLS + CHECKSUM_SYMBOLS) {
    throw malformed(`it has ${symbols.length} characters after LK- instead of 36`);
  }
  const bytes = decodeSymbols(symbols.slice(0, KEY_SYMBOLS));
  if (bytes === null) throw malformed('it has a character that license keys do not use');
  const given = Buffer.from(symbols.slice(KEY_SYMBOLS));
  const expected = Buffer.from(checksum(bytes));
  // Characters beyond ASCII take more bytes each.
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw malformed('its check characters do not fit, so a character is wrong');
  }
  return spell(symbols);
}

/** The digest under which the server finds a license: HMAC-SHA-256, so a stolen table cannot be searched. */
export function licenseKeyDigest(key: LicenseKey, lookupKey: Uint8Array): string {
  return createHmac('sha256', lookupKey).update(key).digest('hex');
}

/** The part of a key that may be shown, so that people can tell keys apart. */
export function licenseKeyLast4(key: LicenseKey): string {
  return key.slice(-4);
}

function malformed(reason: string): LatchkeyError {
  return new LatchkeyError('INPUT_LICENSE_KEY_MALFORMED', `this is not a license key: ${reason}`, {
    hint: 'copy the whole key, from LK- to the last group',
  });
}

function spell(symbols: string): LicenseKey {
  const groups = symbols.match(new RegExp(`.{${GROUP_SYMBOLS}}`, 'gu')) ?? [];
  return `LK-${groups.join('-')}` as LicenseKey;
}

function checksum(bytes: Uint8Array): string {
  return encodeSymbols(createHash('sha256').update(bytes).digest()).slice(0, CHECKSUM_SYMBOLS);
}
