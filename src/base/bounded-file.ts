/** Files that somebody has named, read no further than makes sense: a path may lead to a disk, or to /dev/zero. */
import { open } from 'node:fs/promises';

/**
 * Reads a small file.
 * @returns its bytes; undefined when there are more than the limit
 * @throws the system's error
 */
export async function readBoundedFile(path: string, limitBytes: number): Promise<Buffer | undefined> {
  const file = await open(path);
  return readBounded(file.createReadStream(), limitBytes);
}

/** Reads a stream to its end; undefined when it gives more than the limit. */
export async function readBounded(
  stream: AsyncIterable<Buffer>,
  limitBytes: number,
): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of stream) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
