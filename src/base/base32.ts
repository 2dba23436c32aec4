/** Crockford's base32 (no I, L, O, U), for secrets that people copy by hand. */

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const BITS_PER_SYMBOL = 5;

/** Spells bytes in whole symbols only: bits that do not fill one are left out. */
export function encodeSymbols(bytes: Uint8Array): string {
  let symbols = '';
  let buffer = 0;
  let bits = 0;
  for (const byte of bytes) {
    buffer = ((buffer << 8) | byte) & 0xffff;
    bits += 8;
    while (bits >= BITS_PER_SYMBOL) {
      bits -= BITS_PER_SYMBOL;
      symbols += ALPHABET.charAt((buffer >>> bits) & 31);
    }
  }
  return symbols;
}

/** The whole bytes behind symbols; null for a symbol outside the alphabet. */
export function decodeSymbols(symbols: string): Uint8Array | null {
  const bytes = new Uint8Array(Math.floor((symbols.length * BITS_PER_SYMBOL) / 8));
  let buffer = 0;
  let bits = 0;
  let length = 0;
  for (const symbol of symbols) {
    const value = ALPHABET.indexOf(symbol);
    if (value < 0) return null;
    buffer = ((buffer << BITS_PER_SYMBOL) | value) & 0xffff;
    bits += BITS_PER_SYMBOL;
    if (bits >= 8) {
      bits -= 8;
      bytes[length++] = (buffer >>> bits) & 255;
    }
  }
  return bytes;
}

/** What a person typed as symbols: case, spaces and dashes do not matter, O is 0, I and L are 1. */
export function foldTyped(text: string): string {
  return text
    .toUpperCase()
    .replaceAll(/[\s\-‐-―]/gu, '')
    .replaceAll('O', '0')
    .replaceAll(/[IL]/gu, '1');
}
