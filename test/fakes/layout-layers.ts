/** What an image in a layout of a site is made of. */
import type { Descriptor } from '#src/oci/descriptor.ts';
import { openLayout } from '#src/store/layout.ts';

/** Digests of the layers of the image with the tag 1, the base first. */
export async function layerDigests(layoutDirectory: string): Promise<string[]> {
  const { bytes } = await openLayout(layoutDirectory).readManifest('1');
  const manifest = JSON.parse(Buffer.from(bytes).toString()) as { readonly layers: readonly Descriptor[] };
  return manifest.layers.map(({ digest }) => digest);
}
