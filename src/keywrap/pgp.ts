/**
 * The pgp scheme (ocicrypt keywrap/pgp): private options in a binary OpenPGP message, one public-key packet per
 * recipient, AES-256 with integrity protection of version 1, uncompressed and unsigned: what Go reads and writes.
 * The library is loaded with the first key.
 */
import type { Key, PrivateKey } from 'openpgp';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_ANNOTATION_BYTES, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import type { KeyUnwrapper, KeyWrapper } from './key-wrapper.ts';

export const PGP_ANNOTATION = 'org.opencontainers.image.enc.keys.pgp';

/** Stands for a recipient that the message does not name (RFC 9580 section 5.1.8). */
const NO_KEY_ID = '0000000000000000';

/** One message for all recipients. */
export function createPgpWrapper(recipients: readonly Key[]): KeyWrapper {
  if (recipients.length === 0) throw new TypeError('a PGP message needs a recipient');
  return {
    annotation: PGP_ANNOTATION,
    wrap: async (privateOptions) => {
      const { createMessage, encrypt, enums } = await import('openpgp');
      const encrypted: unknown = await encrypt({
        message: await createMessage({ binary: new Uint8Array(privateOptions) }),
        encryptionKeys: [...recipients],
        format: 'binary',
        config: {
          preferredSymmetricAlgorithm: enums.symmetric.aes256,
          preferredCompressionAlgorithm: enums.compression.uncompressed,
          // Go's older OpenPGP packages cannot read the newer integrity protection.
          aeadProtect: false,
        },
      });
      return bytesFrom(encrypted);
    },
  };
}

/** Opens messages with secret keys that are not, or no longer, protected by a password. */
export function createPgpUnwrapper(keys: readonly PrivateKey[]): KeyUnwrapper {
  return {
    annotation: PGP_ANNOTATION,
    unwrap: async (element) => {
      const { decrypt, readMessage } = await import('openpgp');
      const message = await parsed(() => readMessage({ binaryMessage: new Uint8Array(element) }), element);
      const keyIds = message.getEncryptionKeyIDs();
      if (keyIds.length > MAX_WRAPPED_KEYS) {
        throw new LatchkeyError(
          'LIMIT_EXCEEDED',
          `the PGP message has more than ${MAX_WRAPPED_KEYS} recipients`,
        );
      }
      const named = keyIds.filter((keyId) => keyId.toHex() !== NO_KEY_ID);
      const isNamed = named.some((keyId) => keys.some((key) => key.getKeys(keyId).length > 0));
      // A message may leave its recipients unnamed; then trying is the only way to know.
      if (!isNamed && named.length === keyIds.length) return null;
      try {
        const decrypted: { readonly data: unknown } = await decrypt({
          message,
          decryptionKeys: [...keys],
          format: 'binary',
          config: { maxDecompressedMessageSize: MAX_ANNOTATION_BYTES },
        });
        return bytesFrom(decrypted.data);
      } catch (error) {
        if (!isNamed) return null;
        throw new LatchkeyError(
          'CRYPTO_AUTHENTICATION_FAILED',
          'the PGP message names this key, but was changed or made for another one',
          { cause: error },
        );
      }
    },
  };
}

/** The library would give a stream where a stream was given. */
function bytesFrom(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new TypeError('openpgp gave no bytes');
}

async function parsed<T>(read: () => Promise<T>, element: Uint8Array): Promise<T> {
  if (element.length > MAX_ANNOTATION_BYTES) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `the PGP message is longer than ${MAX_ANNOTATION_BYTES} bytes`);
  }
  try {
    return await read();
  } catch (error) {
    throw new LatchkeyError('INPUT_MALFORMED', 'the wrapped key is not an OpenPGP message', { cause: error });
  }
}
