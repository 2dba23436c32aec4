/** Image keys as CI hands them in: sealed to the organization's import key. */
import { LatchkeyError } from '#src/base/errors.ts';
import { openEnvelope } from '#src/crypto/envelope.ts';
import { IMAGE_KEY_BYTES } from '#src/keywrap/latchkey-element.ts';
import type { KeyServer } from './key-server.ts';

/** @throws LatchkeyError KEY_INVALID */
export async function openSealedImageKey(
  server: KeyServer,
  imageKeyId: string,
  sealed: string,
): Promise<Uint8Array> {
  const invalid = (cause?: unknown) =>
    new LatchkeyError('KEY_INVALID', 'the sealed image key does not open with the import key', {
      hint: 'seal the 32-byte image key, with its id as sub, to the importPublicKeyJwk of GET /v1/organization',
      cause,
    });
  try {
    const { importKey } = server.keys;
    const plaintext = await openEnvelope(sealed, importKey, 'latchkey-image-key-import', imageKeyId);
    if (plaintext.length !== IMAGE_KEY_BYTES) throw invalid();
    return plaintext;
  } catch (error) {
    throw error instanceof LatchkeyError && error.code === 'KEY_INVALID' ? error : invalid(error);
  }
}
