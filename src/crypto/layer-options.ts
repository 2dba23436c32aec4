/**
 * The two JSON documents that describe an encrypted layer (ocicrypt blockcipher/blockcipher.go): public options
 * in an annotation, private options inside every wrapped key. Read more strictly than peers do: they let a
 * public nonce override the private one and panic on a nonce of a wrong length.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { type JsonValue, parseJson } from '#src/base/json.ts';
import { type Digest, isDigest } from '#src/oci/digest.ts';
import { decodeBase64, encodeBase64 } from './base64.ts';

/** The only cipher ocicrypt defines. */
export const LAYER_CIPHER = 'AES_256_CTR_HMAC_SHA256';
export const LAYER_KEY_BYTES = 32;
/** The whole initial counter block of AES-CTR. */
export const LAYER_NONCE_BYTES = 16;
export const LAYER_MAC_BYTES = 32;

/** What opens a layer; secret. */
export interface PrivateLayerOptions {
  readonly symmetricKey: Uint8Array;
  readonly nonce: Uint8Array;
  /**
   * Digest of the layer before encryption. Advisory: some writers put another digest here, and some none, so a
   * reader never refuses a layer because of it.
   */
  readonly plainDigest: Digest | undefined;
  /**
   * Diff ID of the layer before it was salted, by which a later release finds the layer again. Our own field: peers
   * carry it along unread. It is secret, for it would confirm a guess of the layer's content.
   */
  readonly sourceDiffId?: Digest | undefined;
}

/** What anybody can read about a layer. */
export interface PublicLayerOptions {
  /** HMAC-SHA256 of the ciphertext. */
  readonly mac: Uint8Array;
}

/** Writes private options with the fields in Go's order. */
export function formatPrivateOptions(options: PrivateLayerOptions): Uint8Array {
  return Buffer.from(
    JSON.stringify({
      symkey: encodeBase64(options.symmetricKey),
      digest: options.plainDigest ?? '',
      cipheroptions: { nonce: encodeBase64(options.nonce) },
      sourceDiffId: options.sourceDiffId,
    }),
  );
}

/** Writes public options with the fields in Go's order. */
export function formatPublicOptions(options: PublicLayerOptions): Uint8Array {
  return Buffer.from(
    JSON.stringify({ cipher: LAYER_CIPHER, hmac: encodeBase64(options.mac), cipheroptions: {} }),
  );
}

/**
 * Reads private options.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function parsePrivateOptions(bytes: Uint8Array): PrivateLayerOptions {
  const what = 'the private layer options';
  const fields = parseFields(bytes, what, ['symkey', 'digest', 'cipheroptions']);
  const cipherOptions = objectField(fields, 'cipheroptions', what);
  const { digest, sourceDiffId } = fields;
  return {
    symmetricKey: bytesField(fields, 'symkey', LAYER_KEY_BYTES, what),
    nonce: bytesField(cipherOptions, 'nonce', LAYER_NONCE_BYTES, what),
    plainDigest: isDigest(digest) ? digest : undefined,
    sourceDiffId: isDigest(sourceDiffId) ? sourceDiffId : undefined,
  };
}

/**
 * Reads public options.
 * @throws LatchkeyError INPUT_MALFORMED, INPUT_UNSUPPORTED for another cipher
 */
export function parsePublicOptions(bytes: Uint8Array): PublicLayerOptions {
  const what = 'the public layer options';
  const fields = parseFields(bytes, what, ['cipher', 'hmac', 'cipheroptions']);
  const cipher = fields['cipher'];
  if (cipher !== LAYER_CIPHER) {
    const named = typeof cipher === 'string' ? JSON.stringify(cipher.slice(0, 64)) : 'no cipher';
    throw new LatchkeyError('INPUT_UNSUPPORTED', `${what} name ${named}, not ${LAYER_CIPHER}`);
  }
  if (Object.hasOwn(objectField(fields, 'cipheroptions', what), 'nonce')) {
    throw new LatchkeyError('INPUT_MALFORMED', `${what} carry a nonce, which would override the secret one`);
  }
  return { mac: bytesField(fields, 'hmac', LAYER_MAC_BYTES, what) };
}

type JsonFields = Readonly<Record<string, JsonValue>>;

function parseFields(bytes: Uint8Array, what: string, names: readonly string[]): JsonFields {
  const value = parseJson(bytes, what);
  if (!isFields(value)) throw new LatchkeyError('INPUT_MALFORMED', `${what} are not a JSON object`);
  for (const key of Object.keys(value)) {
    // Go matches field names without regard to case, so a second spelling would be a second reading.
    if (!names.includes(key) && names.includes(foldCase(key))) {
      throw new LatchkeyError('INPUT_MALFORMED', `${what} spell a field ${JSON.stringify(key)}`);
    }
  }
  return value;
}

/** Go's encoding/json also takes the long s and the Kelvin sign for s and k (fold.go); one step alone misses one of them. */
function foldCase(name: string): string {
  return name.toUpperCase().toLowerCase();
}

/** An absent or null object is empty, as in Go. */
function objectField(fields: JsonFields, name: string, what: string): JsonFields {
  const value = fields[name] ?? {};
  if (!isFields(value)) throw new LatchkeyError('INPUT_MALFORMED', `${what} have a bad ${name}`);
  return value;
}

function bytesField(fields: JsonFields, name: string, length: number, what: string): Uint8Array {
  const value = fields[name];
  const bytes = typeof value === 'string' ? decodeBase64(value) : undefined;
  if (bytes?.length !== length) {
    throw new LatchkeyError('INPUT_MALFORMED', `${what} need a ${name} of ${length} bytes in base64`);
  }
  return bytes;
}

function isFields(value: JsonValue): value is Record<string, JsonValue> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
