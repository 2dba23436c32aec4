/** Images with real tar layers, as builders make them, in layouts of a temporary directory. */
import { randomBytes } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { pack } from 'tar-stream';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf, type Digest } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import type { ImageManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobStore, ManifestBlob } from '#src/store/blob-store.ts';
import { bytesOf, streamOf } from '../fakes/image.ts';

export interface RealLayer {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
  readonly diffId: Digest;
}

/** A tar with one file. */
export async function tarOf(name: string, content: Uint8Array): Promise<Buffer> {
  const archive = pack();
  archive.entry({ name, mtime: new Date(0) }, Buffer.from(content));
  archive.finalize();
  return bytesOf(archive as AsyncIterable<Uint8Array>);
}

/** A layer with one file, of a media type of {@link MEDIA_TYPE}. */
export async function realLayer(
  mediaType: string,
  content: Uint8Array = randomBytes(2000),
  compress: (tar: Buffer) => Buffer = compressorOf(mediaType),
): Promise<RealLayer> {
  const tar = await tarOf('data/file', content);
  const bytes = compress(tar);
  return {
    descriptor: { mediaType, digest: digestOf(bytes), size: bytes.length },
    bytes,
    diffId: digestOf(tar),
  };
}

function compressorOf(mediaType: string): (tar: Buffer) => Buffer {
  if (mediaType.endsWith('gzip')) return gzipSync;
  return mediaType.endsWith('zstd') ? zstdCompressSync : (tar) => tar;
}

export interface RealImageOptions {
  readonly architecture?: string;
  readonly tag?: string;
  readonly isChild?: boolean;
  readonly manifest?: Partial<ImageManifest> & Readonly<Record<string, unknown>>;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly configMediaType?: string;
  readonly manifestMediaType?: string;
}

/** Stores an image of these layers. */
export async function storeRealImage(
  store: BlobStore,
  layers: readonly RealLayer[],
  options: RealImageOptions = {},
): Promise<ManifestBlob> {
  const configBytes = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: options.architecture ?? 'amd64',
      config: { Env: ['GREETING=visible'], Cmd: ['/bin/true'] },
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
      history: [{ created_by: 'test' }],
      ...options.config,
    }),
  );
  const config: Descriptor = {
    mediaType: options.configMediaType ?? MEDIA_TYPE.ociConfig,
    digest: digestOf(configBytes),
    size: configBytes.length,
  };
  await store.writeBlob(config, () => streamOf(configBytes));
  for (const { descriptor, bytes } of layers) await store.writeBlob(descriptor, () => streamOf(bytes));
  const manifest = encodeImageDocument({
    ...options.manifest,
    schemaVersion: 2,
    mediaType: options.manifestMediaType ?? MEDIA_TYPE.ociManifest,
    config,
    layers: layers.map((layer) => layer.descriptor),
  });
  await store.writeManifest(manifest, options.tag, { isChild: options.isChild ?? false });
  return manifest;
}
