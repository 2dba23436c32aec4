/** What a command line calls an image, as the digest that a key server knows it by. */
import { LatchkeyError } from '#src/base/errors.ts';
import { type Digest, isDigest } from '#src/oci/digest.ts';
import type { CommandContext } from './context.ts';
import { openImage } from './image-location.ts';

/**
 * Gives the digest of an image: the one that is written there, or what the tag points to now. Reads no layer.
 * @throws LatchkeyError INPUT_REFERENCE_INVALID, STATE_NOT_FOUND, NET_*
 */
export async function imageDigestOf(
  context: CommandContext,
  text: string,
  allowHttp: boolean | undefined,
): Promise<Digest> {
  if (isDigest(text)) return text;
  if (text.startsWith('sha256:')) {
    throw new LatchkeyError('INPUT_REFERENCE_INVALID', `${JSON.stringify(text)} is not a whole digest`, {
      hint: 'give sha256: and 64 hexadecimal digits, or the name of the image',
    });
  }
  const opened = await openImage(context, text, allowHttp);
  try {
    if (isDigest(opened.reference)) return opened.reference;
    const { descriptor } = await opened.store.readManifest(opened.reference, { signal: context.signal });
    return descriptor.digest;
  } finally {
    await opened.discard();
  }
}
