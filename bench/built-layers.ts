/** Layers to measure nodes with, whole in memory. */
import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';
import { digestOf } from '#src/oci/digest.ts';
import type { BuiltLayer } from '../lab/layer-archive.ts';

const MEBIBYTE = 1024 * 1024;

/**
 * A layer of random files: gzip and untar cost what they cost, encryption cannot hide.
 * @param sizeBytes of all files together
 * @param fileBytes of one
 */
export async function randomLayer(sizeBytes: number, fileBytes = MEBIBYTE): Promise<BuiltLayer> {
  const archive = pack();
  const tar = buffer(archive);
  for (let written = 0; written < sizeBytes; written += fileBytes) {
    const content = randomBytes(Math.min(fileBytes, sizeBytes - written));
    archive.entry({ name: `data/${content.toString('hex', 0, 8)}.bin`, mtime: new Date(0) }, content);
  }
  archive.finalize();
  const bytes = await tar;
  const gzip = createGzip({ level: 1 });
  gzip.end(bytes);
  const compressed = await buffer(gzip);
  return {
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    bytes: compressed,
    digest: digestOf(compressed),
    diffId: digestOf(bytes),
  };
}
