/**
 * A P-256 key on a PKCS#11 token (PKCS #11 v2.40, section 2.3): made there, signs, and agrees on secrets. Its private half
 * never leaves the token.
 */
import { type KeyObject, createHash, createPublicKey, randomBytes } from 'node:crypto';
import type { Session } from 'graphene-pk11';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  type Library,
  type TokenKeyLocation,
  findKey,
  findKeys,
  loadLibrary,
  tokenFailure,
  withSession,
} from './pkcs11-session.ts';

/** The object identifier of P-256 in DER, as CKA_EC_PARAMS has it (RFC 5480, 2.1.1.1). */
const P256 = Buffer.from('06082a8648ce3d030107', 'hex');
const COORDINATE_BYTES = 32;
const POINT_BYTES = 1 + 2 * COORDINATE_BYTES;
/** DER: an OCTET STRING of a point's length. */
const OCTET_STRING_OF_POINT = Buffer.from([0x04, POINT_BYTES]);
const OBJECT_ID_BYTES = 16;

/**
 * The public half of the key that is on the token; undefined when there is none of its name.
 * @throws LatchkeyError KEY_INVALID, KEY_NOT_FOUND for the token, INPUT_UNSUPPORTED
 */
export async function readTokenEcKey(location: TokenKeyLocation): Promise<KeyObject | undefined> {
  const library = await loadLibrary();
  return withSession(library, location, (session) => {
    const halves = (['PUBLIC_KEY', 'PRIVATE_KEY'] as const).map(
      (kind) => findKeys(library, session, location.uri, kind).length,
    );
    return halves.every((count) => count === 0) ? undefined : publicKeyOf(library, session, location);
  });
}

/**
 * Makes the key on the token, where it stays.
 * @returns its public half
 * @throws LatchkeyError KEY_INVALID, KEY_NOT_FOUND for the token, INPUT_UNSUPPORTED
 */
export async function makeTokenEcKey(location: TokenKeyLocation): Promise<KeyObject> {
  const library = await loadLibrary();
  const make = (session: Session): KeyObject => {
    const { object, id = randomBytes(OBJECT_ID_BYTES) } = location.uri;
    const name = { id, ...(object === undefined ? {} : { label: object }), token: true };
    try {
      session.generateKeyPair(
        'EC_KEY_PAIR_GEN',
        { ...name, keyType: library.KeyType.EC, paramsEC: P256, verify: true },
        {
          ...{ ...name, keyType: library.KeyType.EC, private: true, sensitive: true, extractable: false },
          ...{ sign: true, derive: true, decrypt: false, unwrap: false },
        },
      );
    } catch (error) {
      throw tokenFailure('the token makes no P-256 key', error);
    }
    return publicKeyOf(library, session, location);
  };
  return withSession(library, location, make, 'write');
}

/**
 * ECDSA with SHA-256 on the token.
 * @returns r and s, 32 bytes each
 * @throws LatchkeyError KEY_INVALID, KEY_NOT_FOUND, INPUT_UNSUPPORTED
 */
export async function signOnToken(location: TokenKeyLocation, bytes: Uint8Array): Promise<Buffer> {
  const library = await loadLibrary();
  return withSession(library, location, (session) => {
    const key = findKey(library, session, location.uri, 'PRIVATE_KEY');
    try {
      // Tokens seldom know the mechanism that hashes, too.
      return session.createSign('ECDSA', key).once(createHash('sha256').update(bytes).digest());
    } catch (error) {
      throw tokenFailure('the token does not sign', error);
    }
  });
}

/**
 * ECDH on the token.
 * @param publicKey on P-256
 * @returns the shared secret: the x coordinate of the product
 * @throws LatchkeyError KEY_INVALID, KEY_NOT_FOUND, INPUT_UNSUPPORTED
 */
export async function agreeOnToken(location: TokenKeyLocation, publicKey: KeyObject): Promise<Buffer> {
  const library = await loadLibrary();
  const { ObjectClass, KeyType, EcdhParams, EcKdf } = library;
  return withSession(library, location, (session) => {
    const key = findKey(library, session, location.uri, 'PRIVATE_KEY');
    const params = new EcdhParams(EcKdf.NULL, null, pointOf(publicKey));
    try {
      const secret = session.deriveKey({ name: 'ECDH1_DERIVE', params }, key, {
        ...{ class: ObjectClass.SECRET_KEY, keyType: KeyType.GENERIC_SECRET, valueLen: COORDINATE_BYTES },
        ...{ token: false, sensitive: false, extractable: true },
      });
      const { value } = secret.getAttribute({ value: null });
      if (Buffer.isBuffer(value) && value.length === COORDINATE_BYTES) return value;
    } catch (error) {
      throw tokenFailure('the token agrees on no secret', error);
    }
    throw new LatchkeyError('KEY_INVALID', 'the token keeps to itself the secret that it has agreed on');
  });
}

function publicKeyOf(library: Library, session: Session, { uri }: TokenKeyLocation): KeyObject {
  // Both halves must be there, once.
  findKey(library, session, uri, 'PRIVATE_KEY');
  const key = findKey(library, session, uri, 'PUBLIC_KEY');
  try {
    // The library gives CKA_EC_PARAMS under the name of its predecessor, which has the same number.
    const { paramsECDSA: curve, pointEC } = key.getAttribute({ paramsECDSA: null, pointEC: null });
    if (Buffer.isBuffer(curve) && curve.equals(P256) && Buffer.isBuffer(pointEC)) return fromPoint(pointEC);
  } catch {
    // A key of another kind has no such attributes.
  }
  throw new LatchkeyError('KEY_INVALID', 'the key on the token is not a P-256 key');
}

/** The attribute holds the point as an OCTET STRING; some tokens leave that out. */
function fromPoint(attribute: Buffer): KeyObject {
  const isWrapped =
    attribute.length === OCTET_STRING_OF_POINT.length + POINT_BYTES &&
    attribute.subarray(0, OCTET_STRING_OF_POINT.length).equals(OCTET_STRING_OF_POINT);
  const point = isWrapped ? attribute.subarray(OCTET_STRING_OF_POINT.length) : attribute;
  if (point.length !== POINT_BYTES || point[0] !== 0x04) throw new TypeError('not an uncompressed point');
  const [x, y] = [point.subarray(1, 1 + COORDINATE_BYTES), point.subarray(1 + COORDINATE_BYTES)];
  return createPublicKey({
    key: { kty: 'EC', crv: 'P-256', x: x.toString('base64url'), y: y.toString('base64url') },
    format: 'jwk',
  });
}

/** SEC 1, 2.3.3: 4, x, y. */
function pointOf(publicKey: KeyObject): Buffer {
  const { crv, x = '', y = '' } = publicKey.export({ format: 'jwk' });
  if (crv !== 'P-256') throw new TypeError('a P-256 key agrees only with another one');
  return Buffer.concat([Uint8Array.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
}
