/** Layers from directory trees: the same tree gives the same bytes, as a release pipeline would want it. */
import { type Dirent, createReadStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { type Pack, pack } from 'tar-stream';
import { digestOf } from '#src/oci/digest.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { LayerFile } from './layer-file.ts';

export interface BuiltLayer {
  /** The gzip-compressed tar. */
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
  return compress(await tar);
}

/** A layer of files given as text. */
export async function layerFromFiles(files: readonly LayerFile[]): Promise<BuiltLayer> {
  const archive = pack();
  const tar = buffer(archive);
  for (const { path, content, mode = 0o644 } of files) {
    archive.entry({ name: path, mode, mtime: new Date(0) }, content);
  }
  archive.finalize();
  return compress(await tar);
}

async function compress(tar: Buffer): Promise<BuiltLayer> {
  const gzip = createGzip({ level: 6 });
  gzip.end(tar);
  const bytes = await buffer(gzip);
  return { bytes, digest: digestOf(bytes), diffId: digestOf(tar) };
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
