/** A layout as a tar. The same content gives the same bytes: files are sorted, and owner, mode and time are fixed. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { pack, type Pack } from 'tar-stream';
import { fileSize, readChunks } from './blob-file.ts';
import { BLOB_DIRECTORY, INDEX_FILE, LAYOUT_FILE } from './layout-reader.ts';
import { throwIfAborted } from './verified-stream.ts';

const FILE_MODE = 0o644;
const DIRECTORY_MODE = 0o755;
const EPOCH = new Date(0);

/**
 * Gives the bytes of a tar of the layout in a directory; what a reader needs first comes first.
 * @throws LatchkeyError INTERRUPTED, STORAGE_FAILED
 */
export async function* writeLayoutTar(
  directory: string,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const blobs = (await readdir(join(directory, BLOB_DIRECTORY))).sort();
  const archive = pack();
  const stop = new AbortController();
  const stopped = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  let failure: unknown;
  const packing = packFiles(archive, directory, blobs, stopped).catch((error: unknown) => {
    failure = error;
    archive.destroy();
  });
  try {
    for await (const chunk of archive as AsyncIterable<Uint8Array>) yield chunk;
  } catch (error) {
    throw failure ?? error;
  } finally {
    // An entry that waits for a reader who has gone would wait for ever.
    stop.abort();
    await packing;
  }
  throwIfAborted(signal);
  // Destroyed before its end, the archive would only seem to be complete.
  if (failure !== undefined) throw failure as Error;
}

async function packFiles(
  archive: Pack,
  directory: string,
  blobs: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const addFile = async (name: string): Promise<void> => {
    throwIfAborted(signal);
    const path = join(directory, name);
    const size = (await fileSize(path)) ?? 0;
    const entry = archive.entry({ name, size, mode: FILE_MODE, mtime: EPOCH });
    await pipeline(readChunks(path), entry, { signal });
  };
  await addFile(LAYOUT_FILE);
  await addFile(INDEX_FILE);
  for (const name of ['blobs/', `${BLOB_DIRECTORY}/`]) {
    archive.entry({ name, type: 'directory', mode: DIRECTORY_MODE, mtime: EPOCH });
  }
  for (const name of blobs) await addFile(`${BLOB_DIRECTORY}/${name}`);
  archive.finalize();
}
