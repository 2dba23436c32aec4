/** RSA keys on PKCS#11 tokens (PKCS #11 v2.40). */
import { type KeyObject, createPublicKey } from 'node:crypto';
import type { PrivateKey, Session } from 'graphene-pk11';
import { LatchkeyError } from '#src/base/errors.ts';
import type { OaepHash, Pkcs11Block } from './pkcs11-envelope.ts';
import {
  type Library,
  type TokenKeyLocation,
  findKey,
  loadLibrary,
  returnValueOf,
  tokenFailure,
  withSession,
} from './pkcs11-session.ts';
import type { TokenDecryption } from './pkcs11.ts';

/** What C_Decrypt answers to a block that was made for another key (PKCS #11 section 5.9). */
const NOT_FOR_THIS_KEY: ReadonlySet<string> = new Set([
  ...['CKR_ENCRYPTED_DATA_INVALID', 'CKR_ENCRYPTED_DATA_LEN_RANGE', 'CKR_DATA_INVALID', 'CKR_DATA_LEN_RANGE'],
  ...['CKR_GENERAL_ERROR', 'CKR_FUNCTION_FAILED'],
]);

/**
 * Reads the public key from a token.
 * @throws LatchkeyError KEY_INVALID, KEY_NOT_FOUND, INPUT_UNSUPPORTED
 */
export async function readTokenPublicKey(location: TokenKeyLocation): Promise<KeyObject> {
  const library = await loadLibrary();
  return withSession(library, location, (session) => {
    const key = findKey(library, session, location.uri, 'PUBLIC_KEY');
    const { modulus, publicExponent } = key.getAttribute({ modulus: null, publicExponent: null });
    // A key of another kind has none, whatever the types say.
    if (!Buffer.isBuffer(modulus) || !Buffer.isBuffer(publicExponent)) {
      throw new LatchkeyError('KEY_INVALID', 'the key on the token is not an RSA key');
    }
    const jwk = { kty: 'RSA', n: modulus.toString('base64url'), e: publicExponent.toString('base64url') };
    return createPublicKey({ key: jwk, format: 'jwk' });
  });
}

/** Decrypts on the token; the PIN is presented once for each layer key. */
export function createTokenDecryption(location: TokenKeyLocation): TokenDecryption {
  return async (blocks) => {
    const library = await loadLibrary();
    return withSession(library, location, (session) => {
      const key = findKey(library, session, location.uri, 'PRIVATE_KEY');
      const modulusBytes = key.getAttribute({ modulus: null }).modulus?.length;
      for (const block of blocks) {
        if (modulusBytes !== undefined && block.ciphertext.length !== modulusBytes) continue;
        const plaintext = decryptBlock(library, session, key, block);
        if (plaintext !== null) return plaintext;
      }
      return null;
    });
  };
}

function decryptBlock(
  library: Library,
  session: Session,
  key: PrivateKey,
  { ciphertext, hash }: Pkcs11Block,
): Uint8Array | null {
  const algorithm = { name: 'RSA_PKCS_OAEP', params: oaepParameters(library, hash) };
  let decipher;
  try {
    decipher = session.createDecipher(algorithm, key);
  } catch (error) {
    throw new LatchkeyError(
      'INPUT_UNSUPPORTED',
      `the token refuses RSA-OAEP with ${hash} (${returnValueOf(error)})`,
      {
        hint: 'when the image is encrypted with OCICRYPT_OAEP_HASHALG=sha1 set, most tokens can open it',
        cause: error,
      },
    );
  }
  try {
    return new Uint8Array(decipher.once(Buffer.from(ciphertext), Buffer.alloc(ciphertext.length)));
  } catch (error) {
    if (NOT_FOR_THIS_KEY.has(returnValueOf(error))) return null;
    throw tokenFailure('the token could not decrypt', error);
  }
}

function oaepParameters({ MechanismEnum, RsaMgf, RsaOaepParams }: Library, hash: OaepHash) {
  return hash === 'sha1'
    ? new RsaOaepParams(MechanismEnum.SHA1, RsaMgf.MGF1_SHA1)
    : new RsaOaepParams(MechanismEnum.SHA256, RsaMgf.MGF1_SHA256);
}
