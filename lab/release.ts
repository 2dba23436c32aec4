/** Encrypts an image of a layout for a product and registers it, with the code behind `latchkey encrypt`. */
import { randomBytes } from 'node:crypto';
import { sealEnvelope } from '#src/crypto/envelope.ts';
import { encryptImage } from '#src/image/encrypt.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { type LayerSelection, planEncryption } from '#src/image/plan.ts';
import { writeImage } from '#src/image/rewrite.ts';
import { createLatchkeyWrapper } from '#src/keywrap/latchkey.ts';
import { IMAGE_KEY_BYTES } from '#src/keywrap/latchkey-element.ts';
import type { Digest } from '#src/oci/digest.ts';
import { copyBlobs } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import type { AdminApi } from './admin-api.ts';

export interface ReleaseRequest {
  readonly layoutDirectory: string;
  readonly tag: string;
  /** Where the encrypted image goes, a layout too. */
  readonly outputDirectory: string;
  readonly outputTag: string;
  readonly productCode: string;
  readonly selection: LayerSelection;
  readonly isSalted?: boolean;
}

export interface Release {
  readonly imageDigest: Digest;
  readonly imageKeyId: string;
}

/** Does what a release pipeline does; the image key is known to this function and to the key server only. */
export async function releaseImage(api: AdminApi, request: ReleaseRequest): Promise<Release> {
  const organization = await api.organization();
  const product = await api.product(request.productCode);
  const imageKey = randomBytes(IMAGE_KEY_BYTES);
  const imageKeyId = `imk_${randomBytes(16).toString('hex')}`;
  const source = openLayout(request.layoutDirectory);
  const destination = openLayout(request.outputDirectory);
  const graph = await readImageGraph(source, request.tag);
  const plan = planEncryption(graph, request.selection);
  const contact = product.contact ?? organization.contact;
  const owner = { imageKeyId, organizationId: organization.id, contact };
  const image = await encryptImage({
    source,
    graph,
    plan,
    destination,
    wrappers: [createLatchkeyWrapper(owner, imageKey)],
    isSalted: request.isSalted ?? true,
  });
  const plainLayers = plan.platforms.flatMap(({ layers }) =>
    layers.filter(({ isEncrypted }) => !isEncrypted),
  );
  await copyBlobs(
    source,
    destination,
    plainLayers.map(({ descriptor }) => descriptor),
  );
  await api.registerRelease({
    productCode: request.productCode,
    repository: 'lab/acme',
    version: request.outputTag,
    imageDigests: image.manifests.map(({ descriptor }) => descriptor.digest),
    imageKeyId,
    sealedImageKey: await sealEnvelope(
      imageKey,
      organization.importPublicKeyJwk,
      'latchkey-image-key-import',
    ),
  });
  await writeImage(destination, image, request.outputTag);
  return { imageDigest: image.root.descriptor.digest, imageKeyId };
}
