/** The element of the pkcs11 scheme (ocicrypt crypto/pkcs11): JSON with one RSA-OAEP block per recipient. */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { MAX_ANNOTATION_BYTES, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import { decodeBase64, encodeBase64 } from '#src/crypto/base64.ts';

/** Hash of RSA-OAEP and of its mask generation. */
export type OaepHash = 'sha1' | 'sha256';

export interface Pkcs11Block {
  readonly ciphertext: Uint8Array;
  readonly hash: OaepHash;
}

const recipientSchema = z.object({
  version: z.number().optional(),
  blob: z.string(),
  hash: z.string().optional(),
});
const envelopeSchema = z.object({
  version: z.number().optional(),
  recipients: z.array(recipientSchema).min(1),
});

/** Writes an element with the fields in Go's order. */
export function formatPkcs11Envelope(blocks: readonly Pkcs11Block[]): Buffer {
  const recipients = blocks.map(({ ciphertext, hash }) => ({
    version: 0,
    blob: encodeBase64(ciphertext),
    hash,
  }));
  return Buffer.from(JSON.stringify({ version: 0, recipients }));
}

/**
 * Reads an element.
 * @throws LatchkeyError INPUT_MALFORMED, INPUT_UNSUPPORTED for another version or hash, LIMIT_EXCEEDED
 */
export function parsePkcs11Envelope(bytes: Uint8Array): Pkcs11Block[] {
  if (bytes.length > MAX_ANNOTATION_BYTES) {
    throw new LatchkeyError(
      'LIMIT_EXCEEDED',
      `the pkcs11 envelope is longer than ${MAX_ANNOTATION_BYTES} bytes`,
    );
  }
  const parsed = envelopeSchema.safeParse(parseJson(bytes, 'the pkcs11 envelope'));
  if (!parsed.success) {
    throw new LatchkeyError('INPUT_MALFORMED', 'the pkcs11 envelope lacks fields it needs', {
      cause: parsed.error,
    });
  }
  const { version = 0, recipients } = parsed.data;
  if (recipients.length > MAX_WRAPPED_KEYS) {
    throw new LatchkeyError(
      'LIMIT_EXCEEDED',
      `the pkcs11 envelope has more than ${MAX_WRAPPED_KEYS} recipients`,
    );
  }
  if (version !== 0 || recipients.some((recipient) => (recipient.version ?? 0) !== 0)) {
    throw new LatchkeyError('INPUT_UNSUPPORTED', 'the pkcs11 envelope is of a newer version than 0');
  }
  return recipients.map(({ blob, hash }) => {
    const ciphertext = decodeBase64(blob);
    if (ciphertext === undefined || ciphertext.length === 0) {
      throw new LatchkeyError('INPUT_MALFORMED', 'a block of the pkcs11 envelope is not base64');
    }
    return { ciphertext, hash: hashOf(hash) };
  });
}

/** Older writers leave the hash out when it is SHA-1. */
function hashOf(hash: string | undefined): OaepHash {
  if (hash === undefined || hash === '' || hash === 'sha1') return 'sha1';
  if (hash === 'sha256') return hash;
  throw new LatchkeyError('INPUT_UNSUPPORTED', 'the pkcs11 envelope uses an unknown hash');
}
