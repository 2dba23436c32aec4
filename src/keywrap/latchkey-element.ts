/**
 * Latchkey's own annotation element: a layer's private options under the image key (AES-256-GCM). Peers see
 * an opaque key provider element; the node agent opens it with the image key that comes with a lease.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { canonicalJson, parseJson } from '#src/base/json.ts';
import { type Digest, isDigest } from '#src/oci/digest.ts';

/** ocicrypt's annotation for a key provider named `latchkey`. */
export const LATCHKEY_ANNOTATION = 'org.opencontainers.image.enc.keys.provider.latchkey';

export const IMAGE_KEY_BYTES = 32;
/** AES-GCM's own nonce size (NIST SP 800-38D); random per element, far below 2^32 elements a key. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

const elementSchema = z.object({
  v: z.literal(1),
  kid: z.string().min(1).max(128),
  org: z.string().min(1).max(128),
  wrap: z.literal('A256GCM'),
  iv: z.base64(),
  ct: z.base64(),
  tag: z.base64(),
  dgst: z.string().refine(isDigest, 'not a sha256 digest'),
  contact: z.string().max(256).optional(),
});

/** What anybody can read in an element; all of it is authenticated. */
export interface LatchkeyElementHeader {
  readonly imageKeyId: string;
  readonly organizationId: string;
  /** Digest of the layer before encryption. */
  readonly plainDigest: Digest;
  /** The ISV's contact line, shown where a node has no license to name. */
  readonly contact?: string | undefined;
}

function additionalData(header: LatchkeyElementHeader): Buffer {
  return Buffer.from(
    canonicalJson({
      v: 1,
      kid: header.imageKeyId,
      org: header.organizationId,
      dgst: header.plainDigest,
      contact: header.contact,
    }),
  );
}

/** Seals private options under a 32-byte image key. */
export function sealElement(
  header: LatchkeyElementHeader,
  imageKey: Uint8Array,
  privateOptions: Uint8Array,
): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', imageKey, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(additionalData(header));
  const ciphertext = Buffer.concat([cipher.update(privateOptions), cipher.final()]);
  return Buffer.from(
    JSON.stringify({
      v: 1,
      kid: header.imageKeyId,
      org: header.organizationId,
      wrap: 'A256GCM',
      iv: nonce.toString('base64'),
      ct: ciphertext.toString('base64'),
      tag: cipher.getAuthTag().toString('base64'),
      dgst: header.plainDigest,
      contact: header.contact,
    }),
  );
}

export interface LatchkeyElement {
  readonly header: LatchkeyElementHeader;
  readonly nonce: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly tag: Uint8Array;
}

/**
 * Reads an element without opening it.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function parseElement(bytes: Uint8Array): LatchkeyElement {
  const parsed = elementSchema.safeParse(parseJson(bytes, 'the latchkey annotation'));
  if (!parsed.success) {
    throw new LatchkeyError('INPUT_MALFORMED', 'the latchkey annotation does not have the fields it needs', {
      cause: parsed.error,
    });
  }
  const { kid, org, iv, ct, tag, dgst, contact } = parsed.data;
  const element = {
    header: {
      imageKeyId: kid,
      organizationId: org,
      plainDigest: dgst,
      contact,
    },
    nonce: Buffer.from(iv, 'base64'),
    ciphertext: Buffer.from(ct, 'base64'),
    tag: Buffer.from(tag, 'base64'),
  };
  if (element.nonce.length !== NONCE_BYTES || element.tag.length !== TAG_BYTES) {
    throw new LatchkeyError(
      'INPUT_MALFORMED',
      'the latchkey annotation has a nonce or tag of a wrong length',
    );
  }
  return element;
}

/**
 * Opens an element with its image key.
 * @returns the private options JSON
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED for a wrong key or any changed field
 */
export function openElement(element: LatchkeyElement, imageKey: Uint8Array): Uint8Array {
  const decipher = createDecipheriv('aes-256-gcm', imageKey, element.nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(additionalData(element.header));
  decipher.setAuthTag(element.tag);
  try {
    return Buffer.concat([decipher.update(element.ciphertext), decipher.final()]);
  } catch (error) {
    throw new LatchkeyError(
      'CRYPTO_AUTHENTICATION_FAILED',
      `the layer key does not open with image key ${element.header.imageKeyId}`,
      { cause: error },
    );
  }
}
