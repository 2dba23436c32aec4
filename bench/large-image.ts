/** An image with one large gzip layer that does not compress, as model weights or media do. */
import { createHash, randomFillSync } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';
import { digestFromHex, digestHex, digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';

const CHUNK_BYTES = 1024 * 1024;
const TAR_BLOCK_BYTES = 512;

/** Builds the image in a layout under the tag `v1`; gives the layout's directory. */
export async function buildLargeImage(directory: string, mebibytes: number): Promise<string> {
  const blobs = join(directory, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const path = join(blobs, 'layer.partial');
  const plainHash = createHash('sha256');
  const storedHash = createHash('sha256');
  let sizeBytes = 0;
  await pipeline(
    tarOfRandomBytes(mebibytes),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        plainHash.update(chunk);
        yield chunk;
      }
    },
    createGzip({ level: 1, chunkSize: CHUNK_BYTES }),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        storedHash.update(chunk);
        sizeBytes += chunk.length;
        yield chunk;
      }
    },
    createWriteStream(path),
  );
  const digest = digestFromHex(storedHash.digest('hex'));
  await rename(path, join(blobs, digestHex(digest)));
  const diffId = digestFromHex(plainHash.digest('hex'));
  const configBytes = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      config: {},
      rootfs: { type: 'layers', diff_ids: [diffId] },
    }),
  );
  const config = {
    mediaType: MEDIA_TYPE.ociConfig,
    digest: digestOf(configBytes),
    size: configBytes.length,
  };
  const layout = openLayout(directory);
  await layout.writeBlob(config, async function* () {
    yield configBytes;
  });
  const layers = [{ mediaType: MEDIA_TYPE.ociLayerGzip, digest, size: sizeBytes }];
  const mediaType = MEDIA_TYPE.ociManifest;
  await layout.writeManifest(encodeImageDocument({ schemaVersion: 2, mediaType, config, layers }), 'v1');
  return directory;
}

/** A tar of one file, as long as the header says and then padded; the archive stream makes the header only. */
async function* tarOfRandomBytes(mebibytes: number): AsyncGenerator<Buffer> {
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
