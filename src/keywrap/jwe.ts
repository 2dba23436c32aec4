/**
 * The jwe scheme (ocicrypt keywrap/jwe): private options in a JWE of the JSON serialization (RFC 7516 section 7.2).
 * Trap: go-jose writes several recipients *and* a top-level `encrypted_key`, which the RFC forbids; such a JWE is
 * general, not flattened. Compression is refused (CVE-2024-28180: a small JWE that unpacks to gigabytes).
 */
import type { KeyObject } from 'node:crypto';
import type { FlattenedJWE } from 'jose';
// By their own names: all of jose takes 25 ms to load, which a short command feels (measured).
import { flattenedDecrypt } from 'jose/jwe/flattened/decrypt';
import { FlattenedEncrypt } from 'jose/jwe/flattened/encrypt';
import { GeneralEncrypt } from 'jose/jwe/general/encrypt';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { MAX_ANNOTATION_BYTES, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import type { KeyUnwrapper, KeyWrapper } from './key-wrapper.ts';

export const JWE_ANNOTATION = 'org.opencontainers.image.enc.keys.jwe';

const RSA_WRITE_ALGORITHM = 'RSA-OAEP-256';
const EC_WRITE_ALGORITHM = 'ECDH-ES+A256KW';
const CONTENT_ALGORITHM = 'A256GCM';
/** The five that ocicrypt knows; RSA-OAEP with SHA-1 is its default and has no known weakness in this use. */
const RSA_ALGORITHMS = ['RSA-OAEP', RSA_WRITE_ALGORITHM];
const EC_ALGORITHMS = ['ECDH-ES+A128KW', 'ECDH-ES+A192KW', EC_WRITE_ALGORITHM];
const CONTENT_READ_ALGORITHMS = [
  'A128GCM',
  'A192GCM',
  'A256GCM',
  'A128CBC-HS256',
  'A192CBC-HS384',
  'A256CBC-HS512',
];

/** A public key, and the key management algorithm its owner chose for it (the `alg` of a JWK). */
export interface JweRecipient {
  readonly publicKey: KeyObject;
  readonly algorithm?: string | undefined;
}

/**
 * Checks the algorithm that a key file asks for.
 * @param what the file's name, for the message
 * @throws LatchkeyError KEY_INVALID
 */
export function createJweRecipient(
  publicKey: KeyObject,
  algorithm: string | undefined,
  what: string,
): JweRecipient {
  const usable = algorithmsOf(publicKey);
  if (algorithm === undefined || usable.includes(algorithm)) return { publicKey, algorithm };
  throw new LatchkeyError('KEY_INVALID', `${what} asks for the algorithm ${JSON.stringify(algorithm)}`, {
    hint: `with this kind of key, "alg" can be ${usable.join(' or ')}, or be left out`,
  });
}

/**
 * One envelope for all recipients; each can open it alone.
 * @param recipients a key alone gets the algorithm that fits it
 */
export function createJweWrapper(recipients: readonly (KeyObject | JweRecipient)[]): KeyWrapper {
  const known = recipients.map((recipient) =>
    'publicKey' in recipient ? recipient : { publicKey: recipient },
  );
  const [only, ...others] = known;
  if (only === undefined) throw new TypeError('a JWE needs a recipient');
  return {
    annotation: JWE_ANNOTATION,
    wrap: async (privateOptions) => {
      const jwe =
        others.length === 0
          ? await encryptForOne(privateOptions, only)
          : await encryptForSeveral(privateOptions, known);
      return Buffer.from(JSON.stringify(jwe));
    },
  };
}

/** Flattened with everything protected, as Go writes it for one recipient. */
function encryptForOne(privateOptions: Uint8Array, recipient: JweRecipient): Promise<object> {
  return new FlattenedEncrypt(privateOptions)
    .setProtectedHeader({ alg: writeAlgorithm(recipient), enc: CONTENT_ALGORITHM })
    .encrypt(recipient.publicKey);
}

function encryptForSeveral(privateOptions: Uint8Array, recipients: readonly JweRecipient[]): Promise<object> {
  const jwe = new GeneralEncrypt(privateOptions).setProtectedHeader({ enc: CONTENT_ALGORITHM });
  for (const recipient of recipients) {
    jwe.addRecipient(recipient.publicKey).setUnprotectedHeader({ alg: writeAlgorithm(recipient) });
  }
  return jwe.encrypt();
}

function writeAlgorithm({ publicKey, algorithm }: JweRecipient): string {
  return algorithm ?? (publicKey.asymmetricKeyType === 'rsa' ? RSA_WRITE_ALGORITHM : EC_WRITE_ALGORITHM);
}

function algorithmsOf(key: KeyObject): string[] {
  return key.asymmetricKeyType === 'rsa' ? RSA_ALGORITHMS : EC_ALGORITHMS;
}

/** Opens envelopes with one private key. A JWE without key IDs cannot tell "not for this key" from "damaged". */
export function createJweUnwrapper(privateKey: KeyObject): KeyUnwrapper {
  const algorithms = algorithmsOf(privateKey);
  return {
    annotation: JWE_ANNOTATION,
    unwrap: async (element) => {
      for (const jwe of parseJwe(element)) {
        try {
          const { plaintext } = await flattenedDecrypt(jwe, privateKey, {
            keyManagementAlgorithms: algorithms,
            contentEncryptionAlgorithms: CONTENT_READ_ALGORITHMS,
          });
          return plaintext;
        } catch {
          // Which recipient failed, and how, would help an attacker only; the next one may be ours.
        }
      }
      return null;
    },
  };
}

const headerSchema = z.looseObject({ zip: z.never().optional() });
const base64url = z.string().regex(/^[A-Za-z0-9_-]*$/);
const recipientSchema = z.object({ encrypted_key: base64url.optional(), header: headerSchema.optional() });
const jweSchema = z.object({
  protected: base64url.optional(),
  unprotected: headerSchema.optional(),
  aad: base64url.optional(),
  iv: base64url,
  ciphertext: base64url,
  tag: base64url,
  recipients: z.array(recipientSchema).min(1).max(MAX_WRAPPED_KEYS).optional(),
  ...recipientSchema.shape,
});

/**
 * Reads a JWE as one flattened JWE per recipient.
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function parseJwe(element: Uint8Array): FlattenedJWE[] {
  if (element.length > MAX_ANNOTATION_BYTES) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `the JWE is longer than ${MAX_ANNOTATION_BYTES} bytes`);
  }
  const parsed = jweSchema.safeParse(parseJson(element, 'the JWE'));
  if (!parsed.success) {
    const isZip = parsed.error.issues.some((issue) => issue.path.includes('zip'));
    throw new LatchkeyError('INPUT_MALFORMED', isZip ? ZIP_REFUSED : 'the JWE lacks fields it needs', {
      cause: parsed.error,
    });
  }
  const { recipients, encrypted_key, header, ...shared } = parsed.data;
  refuseProtectedZip(shared.protected);
  // With a recipients list, the top-level key and header belong to nobody.
  return (recipients ?? [{ encrypted_key, header }]).map((recipient) =>
    withoutUndefined({ ...shared, ...recipient }),
  );
}

const ZIP_REFUSED = 'the JWE is compressed, which is refused';

function refuseProtectedZip(protectedHeader: string | undefined): void {
  if (protectedHeader === undefined) return;
  const header = parseJson(Buffer.from(protectedHeader, 'base64url'), 'the protected header of the JWE');
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw new LatchkeyError('INPUT_MALFORMED', 'the protected header of the JWE is not an object');
  }
  if (Object.hasOwn(header, 'zip')) throw new LatchkeyError('INPUT_MALFORMED', ZIP_REFUSED);
}

/** jose takes a present but undefined member for a malformed one. */
function withoutUndefined(members: object): FlattenedJWE {
  const present = Object.entries(members).filter(([, value]) => value !== undefined);
  return Object.fromEntries(present) as unknown as FlattenedJWE;
}
