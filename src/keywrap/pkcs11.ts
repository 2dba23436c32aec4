/**
 * The pkcs11 scheme (ocicrypt keywrap/pkcs11): private options directly in an RSA-OAEP block, whose private key is on a
 * PKCS#11 token. There is no content key between them, so the options must be short.
 */
import { type KeyObject, constants, publicEncrypt } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import { formatPrivateOptions, parsePrivateOptions } from '#src/crypto/layer-options.ts';
import type { KeyUnwrapper, KeyWrapper } from './key-wrapper.ts';
import {
  type OaepHash,
  type Pkcs11Block,
  formatPkcs11Envelope,
  parsePkcs11Envelope,
} from './pkcs11-envelope.ts';

export const PKCS11_ANNOTATION = 'org.opencontainers.image.enc.keys.pkcs11';

/** The variable by which every ocicrypt tool is told the hash; SoftHSM knows only SHA-1. */
const HASH_VARIABLE = 'OCICRYPT_OAEP_HASHALG';
const HASH_BYTES: Readonly<Record<OaepHash, number>> = { sha1: 20, sha256: 32 };

/**
 * The hash that the environment asks for; SHA-256 unless it does.
 * @throws LatchkeyError CONFIG_INVALID
 */
export function oaepHashOf(env: Readonly<Record<string, string | undefined>>): OaepHash {
  const name = (env[HASH_VARIABLE] ?? '').toLowerCase();
  if (name === '' || name === 'sha256') return 'sha256';
  if (name === 'sha1') return name;
  throw new LatchkeyError('CONFIG_INVALID', `${HASH_VARIABLE} is neither sha1 nor sha256`);
}

/**
 * One envelope for all recipients.
 * @param recipients RSA public keys
 * @throws LatchkeyError KEY_INVALID for a key that is not RSA; from wrap: KEY_INVALID when a key is too short
 */
export function createPkcs11Wrapper(recipients: readonly KeyObject[], hash: OaepHash): KeyWrapper {
  if (recipients.length === 0) throw new TypeError('a pkcs11 envelope needs a recipient');
  if (recipients.some((key) => key.asymmetricKeyType !== 'rsa')) {
    throw new LatchkeyError('KEY_INVALID', 'a pkcs11 recipient needs an RSA key', {
      hint: 'for an EC key use jwe:FILE',
    });
  }
  return {
    annotation: PKCS11_ANNOTATION,
    wrap: async (privateOptions) =>
      formatPkcs11Envelope(
        recipients.map((key) => ({ ciphertext: encryptFor(key, privateOptions, hash), hash })),
      ),
  };
}

function encryptFor(key: KeyObject, privateOptions: Uint8Array, oaepHash: OaepHash): Buffer {
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  // RFC 8017 section 7.1.1.
  const roomBytes = Math.floor((bits + 7) / 8) - 2 * HASH_BYTES[oaepHash] - 2;
  const fitting = [privateOptions, withoutExtras(privateOptions)].find(({ length }) => length <= roomBytes);
  if (fitting !== undefined) {
    return publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash }, fitting);
  }
  throw new LatchkeyError(
    'KEY_INVALID',
    `a layer key does not fit into an RSA key of ${bits} bits with ${oaepHash}`,
    {
      hint: `use a key of 3072 bits or more, or set ${HASH_VARIABLE}=sha1`,
    },
  );
}

/** Only what every peer needs to decrypt: what is ours alone is worth less than a recipient. */
function withoutExtras(privateOptions: Uint8Array): Uint8Array {
  const { symmetricKey, nonce, plainDigest } = parsePrivateOptions(privateOptions);
  return formatPrivateOptions({ symmetricKey, nonce, plainDigest });
}

/**
 * Decrypts blocks with one key of a token.
 * @returns what the first block holds that is for this key; null when none is
 * @throws LatchkeyError KEY_INVALID, KEY_NOT_FOUND, INPUT_UNSUPPORTED
 */
export type TokenDecryption = (blocks: readonly Pkcs11Block[]) => Promise<Uint8Array | null>;

/** Opens envelopes with a key that stays on its token. */
export function createPkcs11Unwrapper(decrypt: TokenDecryption): KeyUnwrapper {
  return {
    annotation: PKCS11_ANNOTATION,
    unwrap: (element) => decrypt(parsePkcs11Envelope(element)),
  };
}
