/** Layers from directory trees: the same tree gives the same bytes, as a release pipeline would want it. */
import { type Dirent, createReadStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { createGzip, zstdCompressSync } from 'node:zlib';
import { type Pack, pack } from 'tar-stream';
import { digestOf } from '#src/oci/digest.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { Compression } from '#src/oci/media-types.ts';
import type { LayerFile } from './layer-file.ts';

export interface BuiltLayer {
  readonly mediaType: string;
  /** The tar, compressed as the media type says. */
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly diffId: Digest;
}

/** A layer of the files below a directory, in name order, owned by root, without times. */
export async function layerFromDirectory(directory: string): Promise<BuiltLayer> {
  const archive = pack();
  const tar = buffer(archive);
  await addTree(archive, directory, directory);
  archive.finalize();
  return layerOf(await tar);
}

/** A layer of files given as text. */
export async function layerFromFiles(
  files: readonly LayerFile[],
  compression: Compression = 'gzip',
): Promise<BuiltLayer> {
  const archive = pack();
  const tar = buffer(archive);
  for (const { path, content, mode = 0o644 } of files) {
    archive.entry({ name: path, mode, mtime: new Date(0) }, content);
  }
  archive.finalize();
  return layerOf(await tar, compression);
}

async function layerOf(tar: Buffer, compression: Compression = 'gzip'): Promise<BuiltLayer> {
  const bytes = await compress(tar, compression);
  const suffix = compression === 'none' ? '' : `+${compression}`;
  return {
    mediaType: `application/vnd.oci.image.layer.v1.tar${suffix}`,
    bytes,
    digest: digestOf(bytes),
    diffId: digestOf(tar),
  };
}

function compress(tar: Buffer, compression: Compression): Buffer | Promise<Buffer> {
  if (compression === 'none') return tar;
  if (compression === 'zstd') return zstdCompressSync(tar);
  const gzip = createGzip({ level: 6 });
  gzip.end(tar);
  return buffer(gzip);
}

async function addTree(archive: Pack, root: string, directory: string): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true });
  for (const entry of entries.sort(byName)) {
    const path = join(directory, entry.name);
    const { mode, size } = await lstat(path);
    const header = { name: relative(root, path), mode: mode & 0o7777, mtime: new Date(0) };
    if (entry.isSymbolicLink()) {
      archive.entry({ ...header, type: 'symlink', linkname: await readlink(path) });
    } else if (entry.isDirectory()) {
      archive.entry({ ...header, type: 'directory' });
      await addTree(archive, root, path);
    } else if (entry.isFile()) {
      await pipeline(createReadStream(path), archive.entry({ ...header, size }));
    }
  }
}

function byName(left: Dirent, right: Dirent): number {
  return left.name < right.name ? -1 : 1;
}
