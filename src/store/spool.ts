/**
 * A stream kept in a private temporary file, so that it can be read at any place. The file has no name any more when its
 * first byte is written: however the process ends, the kernel removes it.
 */
import { randomUUID } from 'node:crypto';
import { rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { DISK_CHECK_INTERVAL_BYTES, MIN_FREE_DISK_BYTES } from '#src/base/limits.ts';
import { RandomAccessFile } from './random-access-file.ts';
import { throwIfAborted } from './verified-stream.ts';

export interface SpooledStream {
  readonly file: RandomAccessFile;
  readonly sizeBytes: number;
}

/**
 * Writes a stream to a temporary file.
 * @param directory on a disk that may hold an image
 * @throws LatchkeyError STORAGE_FULL before the disk is full, STORAGE_FAILED, INTERRUPTED, and what the stream raises
 */
export async function spoolStream(
  chunks: AsyncIterable<Uint8Array>,
  directory: string,
  signal?: AbortSignal,
): Promise<SpooledStream> {
  const path = join(directory, `latchkey-${randomUUID()}`);
  const file = await RandomAccessFile.open(path, 'wx+', 0o600);
  try {
    await rm(path);
    let sizeBytes = 0;
    let nextCheckBytes = 0;
    for await (const chunk of chunks) {
      throwIfAborted(signal);
      sizeBytes += chunk.length;
      if (sizeBytes > nextCheckBytes) {
        await requireSpace(directory);
        nextCheckBytes = sizeBytes + DISK_CHECK_INTERVAL_BYTES;
      }
      await file.append(chunk);
    }
    return { file, sizeBytes };
  } catch (error) {
    await file.close();
    throw toLatchkeyError(error);
  }
}

async function requireSpace(directory: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  if (bavail * bsize > MIN_FREE_DISK_BYTES) return;
  throw new LatchkeyError('STORAGE_FULL', `${directory} has no room for the unpacked archive`, {
    hint: 'free some space, or name a larger directory in TMPDIR, and run the same command again',
  });
}
