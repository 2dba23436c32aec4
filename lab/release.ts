/** Encrypts an image of a layout for a product and registers it, with the code behind `latchkey encrypt`. */
import { systemClock } from '#src/base/clock.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import type { LayerSelection } from '#src/image/layer-selection.ts';
import { planEncryption } from '#src/image/plan.ts';
import { publishImage } from '#src/image/publish.ts';
import type { Digest } from '#src/oci/digest.ts';
import { openLayout } from '#src/store/layout.ts';
import type { AdminClient } from '../cli/admin-client.ts';
import { createAdminRegistrar } from '../cli/admin-registrar.ts';

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
export async function releaseImage(client: AdminClient, request: ReleaseRequest): Promise<Release> {
  const graph = await readImageGraph(openLayout(request.layoutDirectory), request.tag);
  const { root, imageKeyId } = await publishImage({
    graph,
    plan: planEncryption(graph, request.selection),
    destination: openLayout(request.outputDirectory),
    tag: request.outputTag,
    wrappers: [],
    recipientIds: [],
    registrar: createAdminRegistrar(client, request.productCode),
    repository: 'lab/acme',
    isSalted: request.isSalted ?? true,
    cacheDirectory: request.outputDirectory,
    clock: systemClock,
  });
  if (imageKeyId === undefined) throw new TypeError('a release with a registrar has an image key');
  return { imageDigest: root, imageKeyId };
}
