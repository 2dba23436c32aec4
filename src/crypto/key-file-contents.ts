/** What kind of key a file holds, told from its bytes: people name such files as they like. */
import { parseCertificates } from './key-file.ts';

/** `key`: a private key in PEM, DER or JWK, or nothing known. */
export type KeyFileContents = 'key' | 'certificate' | 'pgp' | 'pkcs11';

/** Tags 5 and 6, secret and public key, in the old and the new packet format (RFC 9580 section 4.2). */
const PGP_KEY_TAGS = [5, 6];
/** The line that makes a YAML file a PKCS#11 key file (ocicrypt docs/pkcs11.md). */
const PKCS11_LINE = /^["']?pkcs11["']?[ \t]*:/m;

/** Tells what a file given as a private key holds. */
export function keyFileContents(bytes: Uint8Array): KeyFileContents {
  if (isPgpPacket(bytes[0] ?? 0)) return 'pgp';
  const text = Buffer.from(bytes).toString('latin1');
  if (text.includes('-----BEGIN PGP ')) return 'pgp';
  if (text.includes('PRIVATE KEY-----')) return 'key';
  if (!text.includes('-----BEGIN ') && PKCS11_LINE.test(text)) return 'pkcs11';
  return parseCertificates(bytes).length > 0 ? 'certificate' : 'key';
}

function isPgpPacket(first: number): boolean {
  const tag = (first & 0b1100_0000) === 0b1100_0000 ? first & 0b0011_1111 : (first & 0b0011_1100) >> 2;
  return (first & 0b1000_0000) !== 0 && PGP_KEY_TAGS.includes(tag);
}
