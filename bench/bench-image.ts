/** Images to measure with, in layouts: layers of any size are made while they are written. */
import { spawn } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip, createZstdCompress } from 'node:zlib';
import { pack } from 'tar-stream';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type Digest, digestFromHex, digestHex, digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';

const CHUNK_BYTES = 1024 * 1024;
const TAR_BLOCK_BYTES = 512;

export interface LayerContent {
  readonly tar: AsyncIterable<Uint8Array>;
  readonly compression: 'gzip' | 'zstd';
  readonly level: number;
}

/** One layer that does not compress, as model weights or media do. */
export function incompressibleLayer(mebibytes: number): LayerContent {
  return { tar: tarOfRandomBytes(mebibytes), compression: 'gzip', level: 1 };
}

/** Layers of 32 KiB, as an image of many small build steps has. */
export function smallLayers(count: number): LayerContent[] {
  return Array.from({ length: count }, () => ({ tar: smallTar(32 * 1024), compression: 'gzip', level: 6 }));
}

/** Directories of a Debian system, from small to large, compressed as builders do: by gzip, every third by zstd. */
export function debianLayers(): LayerContent[] {
  const directories = [
    'usr/sbin',
    'usr/lib/python3',
    'usr/share/zoneinfo',
    'usr/share/perl',
    'usr/lib/gcc',
    'usr/bin',
  ];
  return directories
    .filter((name) => existsSync(join('/', name)))
    .map((name, index): LayerContent => {
      const isZstd = index % 3 === 2;
      return { tar: tarOfDirectory(name), compression: isZstd ? 'zstd' : 'gzip', level: isZstd ? 3 : 6 };
    });
}

/** Builds the image in a layout under the tag `v1`. */
export async function buildBenchImage(directory: string, contents: readonly LayerContent[]): Promise<void> {
  await mkdir(join(directory, 'blobs', 'sha256'), { recursive: true });
  const layers: Descriptor[] = [];
  const diffIds: Digest[] = [];
  for (const content of contents) {
    const { descriptor, diffId } = await writeLayer(directory, content);
    layers.push(descriptor);
    diffIds.push(diffId);
  }
  const configBytes = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      config: {},
      rootfs: { type: 'layers', diff_ids: diffIds },
    }),
  );
  const config = { mediaType: MEDIA_TYPE.ociConfig, digest: digestOf(configBytes), size: configBytes.length };
  const layout = openLayout(directory);
  await layout.writeBlob(config, async function* () {
    yield configBytes;
  });
  const mediaType = MEDIA_TYPE.ociManifest;
  await layout.writeManifest(encodeImageDocument({ schemaVersion: 2, mediaType, config, layers }), 'v1');
}

async function writeLayer(
  directory: string,
  { tar, compression, level }: LayerContent,
): Promise<{ descriptor: Descriptor; diffId: Digest }> {
  const path = join(directory, 'blobs', 'sha256', 'layer.partial');
  const plain = createCount();
  const stored = createCount();
  const compressor =
    compression === 'gzip'
      ? createGzip({ level, chunkSize: CHUNK_BYTES })
      : createZstdCompress({
          params: { [constants.ZSTD_c_compressionLevel]: level },
          chunkSize: CHUNK_BYTES,
        });
  await pipeline(tar, plain.pass, compressor, stored.pass, createWriteStream(path));
  const digest = stored.digest();
  await rename(path, join(directory, 'blobs', 'sha256', digestHex(digest)));
  const mediaType = compression === 'gzip' ? MEDIA_TYPE.ociLayerGzip : MEDIA_TYPE.ociLayerZstd;
  return { descriptor: { mediaType, digest, size: stored.sizeBytes() }, diffId: plain.digest() };
}

/** Hashes and counts what passes. */
function createCount() {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  async function* pass(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      hash.update(chunk);
      sizeBytes += chunk.length;
      yield chunk;
    }
  }
  return {
    pass,
    digest: () => digestFromHex(hash.digest('hex')),
    sizeBytes: () => sizeBytes,
  };
}

/** A tar of one file, as long as the header says and then padded; the archive stream makes the header only. */
async function* tarOfRandomBytes(mebibytes: number): AsyncGenerator<Uint8Array> {
  const size = mebibytes * CHUNK_BYTES;
  const archive = pack();
  const header = new Promise<Buffer>((resolve) => archive.once('data', (chunk) => resolve(chunk as Buffer)));
  archive.entry({ name: 'weights.bin', size, mtime: new Date(0) });
  yield await header;
  for (let index = 0; index < mebibytes; index += 1) {
    yield randomFillSync(Buffer.allocUnsafeSlow(CHUNK_BYTES));
  }
  // The end of an archive is two empty blocks; whole MiB need no padding before it.
  yield Buffer.alloc(2 * TAR_BLOCK_BYTES);
}

function smallTar(sizeBytes: number): AsyncIterable<Uint8Array> {
  const archive = pack();
  archive.entry({ name: 'step.bin', mtime: new Date(0) }, randomFillSync(Buffer.alloc(sizeBytes)));
  archive.finalize();
  return archive as AsyncIterable<Uint8Array>;
}

async function* tarOfDirectory(name: string): AsyncGenerator<Uint8Array> {
  const child = spawn('tar', ['-C', '/', '--sort=name', '-cf', '-', name], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  yield* child.stdout as AsyncIterable<Buffer>;
  // Looked at after the output, when it has settled or soon will; 1 is a file that changed meanwhile.
  const status = await ended;
  if (status === null || status > 1) throw new Error(`tar of /${name} ended with ${status ?? 'a signal'}`);
}
