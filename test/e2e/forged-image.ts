/** What a stranger who can push makes of a released image: he has its manifest, its config and its blobs. */
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import type { Platform } from '#src/oci/platform.ts';
import { copyBlobs } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import type { Site } from '../../lab/site.ts';

const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG_TYPE = 'application/vnd.oci.image.config.v1+json';
const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';

export interface ForgedConfig {
  readonly config: Readonly<Record<string, unknown>>;
  readonly rootfs: { readonly type: 'layers'; readonly diff_ids: readonly string[] };
  readonly history: readonly unknown[];
}

/** A released image as a forger works on it. */
export interface Material {
  readonly layers: readonly Descriptor[];
  readonly config: ForgedConfig;
  /** The config as it is pushed, where that is not what any program would write. */
  readonly configText?: string;
  /** Blobs of the forger's own, which the layers name. */
  readonly blobs?: readonly Uint8Array[];
}

/** Pushes what a forger makes of the image in the layout `from`; gives the manifest's descriptor. */
export async function pushForged(
  site: Site,
  from: string,
  name: string,
  forge: (material: Material) => Material,
): Promise<Descriptor> {
  const victim = openLayout(site.layout(from));
  const { bytes } = await victim.readManifest('1');
  const manifest = JSON.parse(Buffer.from(bytes).toString()) as { config: Descriptor; layers: Descriptor[] };
  const chunks: Uint8Array[] = [];
  for await (const chunk of victim.openBlob(manifest.config)) chunks.push(chunk);
  const config = JSON.parse(Buffer.concat(chunks).toString()) as ForgedConfig;
  const forged = forge({ layers: manifest.layers, config });
  const layout = openLayout(site.layout(name));
  const configBytes = Buffer.from(forged.configText ?? JSON.stringify(forged.config));
  const own = [configBytes, ...(forged.blobs ?? [])];
  for (const blob of own) {
    const descriptor = { mediaType: CONFIG_TYPE, digest: digestOf(blob), size: blob.length };
    await layout.writeBlob(descriptor, async function* () {
      yield blob;
    });
  }
  const ownDigests = new Set(own.map((blob) => digestOf(blob)));
  await copyBlobs(
    victim,
    layout,
    forged.layers.filter(({ digest }) => !ownDigests.has(digest)),
  );
  const document = encodeImageDocument({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: { mediaType: CONFIG_TYPE, digest: digestOf(configBytes), size: configBytes.length },
    layers: forged.layers,
  });
  await layout.writeManifest(document, '1');
  await site.push(name, '1');
  return document.descriptor;
}

/** Pushes an index over manifests of one repository, each with the platform that it claims. */
export async function pushIndex(
  site: Site,
  name: string,
  entries: readonly { readonly from: string; readonly platform?: Platform }[],
): Promise<void> {
  const layout = openLayout(site.layout(name));
  const manifests: Descriptor[] = [];
  for (const { from, platform } of entries) {
    const source = openLayout(site.layout(from));
    const document = await source.readManifest('1');
    const { config, layers } = JSON.parse(Buffer.from(document.bytes).toString()) as {
      config: Descriptor;
      layers: Descriptor[];
    };
    await copyBlobs(source, layout, [config, ...layers]);
    await layout.writeManifest(document, undefined);
    manifests.push({ ...document.descriptor, ...(platform === undefined ? {} : { platform }) });
  }
  await layout.writeManifest(
    encodeImageDocument({ schemaVersion: 2, mediaType: INDEX_TYPE, manifests }),
    '1',
  );
  await site.push(name, '1');
}
