/** Files that appear whole or not at all: written beside, made durable, then renamed. */
import { randomUUID } from 'node:crypto';
import { open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { FILE_CHUNK_BYTES } from '#src/base/limits.ts';

const LEFTOVER_PATTERN = /^\.latchkey-[0-9a-f-]{36}\.partial$/;

/** A fresh name for a file in the making, in the directory whose filesystem it will stay on. */
export function partialPath(directory: string): string {
  return join(directory, `.latchkey-${randomUUID()}.partial`);
}

/**
 * Writes chunks to `path` by way of `partial`; on any failure nothing stays of either.
 * @throws LatchkeyError STORAGE_FULL, STORAGE_FAILED, and what the chunks raise
 */
export async function writeWhole(
  partial: string,
  path: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<void> {
  try {
    const file = await open(partial, 'wx');
    try {
      for await (const chunk of chunks) await writeAll(file, chunk);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw toLatchkeyError(error);
  }
}

/** Makes a finished file durable and gives it its name. */
export async function renameDurably(partial: string, path: string): Promise<void> {
  const file = await open(partial, 'r+');
  try {
    await file.datasync();
  } finally {
    await file.close();
  }
  await rename(partial, path);
}

/** Makes renames in a directory survive a power cut. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Streams a file in {@link FILE_CHUNK_BYTES} pieces, each in memory of its own. */
export async function* readChunks(path: string): AsyncGenerator<Uint8Array, void, undefined> {
  const file = await open(path, 'r');
  try {
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafeSlow(FILE_CHUNK_BYTES));
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

/** Size of a file in bytes, or undefined when there is none. */
export async function fileSize(path: string): Promise<number | undefined> {
  try {
    const found = await stat(path);
    return found.isFile() ? found.size : undefined;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw toLatchkeyError(error);
  }
}

/** Removes files in the making that a crash left longer than `ageMs` ago. */
export async function removeLeftovers(directory: string, ageMs: number, nowMs: number): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!LEFTOVER_PATTERN.test(name)) continue;
    const path = join(directory, name);
    try {
      const { mtimeMs } = await stat(path);
      if (nowMs - mtimeMs > ageMs) await rm(path, { force: true });
    } catch (error) {
      // Its writer may have finished meanwhile.
      if (systemErrorCode(error) !== 'ENOENT') throw toLatchkeyError(error);
    }
  }
}

async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  let offset = 0;
  while (offset < chunk.length) {
    const { bytesWritten } = await file.write(chunk, offset);
    offset += bytesWritten;
  }
}
