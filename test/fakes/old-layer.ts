/** Layers of a release that its pipeline has forgotten the keys of, and what the pipeline hands in to take them over. */
import { sealEnvelope } from '#src/crypto/envelope.ts';
import { generateLayerKey } from '#src/crypto/layer-cipher.ts';
import { formatPrivateOptions } from '#src/crypto/layer-options.ts';
import { sealElement } from '#src/keywrap/latchkey-element.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { ElementsInput } from '#src/wire/admin/image-key.ts';
import type { AdminClient } from '../../cli/admin-client.ts';
import { type RegisteredImage, randomDigest } from './sold-product.ts';

export type ElementItem = ElementsInput['items'][number];

export interface OldLayer {
  readonly privateOptions: Uint8Array;
  readonly sourceDiffId: Digest;
  readonly element: string;
}

/** A layer under an image key. */
export async function oldLayer(
  client: AdminClient,
  image: Pick<RegisteredImage, 'imageKeyId' | 'imageKey'>,
): Promise<OldLayer> {
  const { id: organizationId } = await client.organization();
  const plainDigest = randomDigest();
  const sourceDiffId = randomDigest();
  const privateOptions = formatPrivateOptions({ ...generateLayerKey(), plainDigest, sourceDiffId });
  const header = { imageKeyId: image.imageKeyId, organizationId, plainDigest };
  const element = Buffer.from(sealElement(header, image.imageKey, privateOptions)).toString('base64');
  return { privateOptions, sourceDiffId, element };
}

/** Seals private options on their way to an image key. */
export async function sealOptions(
  client: AdminClient,
  imageKeyId: string,
  privateOptions: Uint8Array,
): Promise<string> {
  const { importPublicKeyJwk } = await client.organization();
  return sealEnvelope(privateOptions, importPublicKeyJwk, 'latchkey-layer-options-import', imageKeyId);
}

/** Private options of a layer that was encrypted just now. */
export function newOptions(): Uint8Array {
  return formatPrivateOptions({ ...generateLayerKey(), plainDigest: randomDigest() });
}
