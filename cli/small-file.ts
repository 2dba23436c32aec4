/** Files that somebody has carried here: read whole, and only when they are not too large for what they should be. */
import { readFile, stat } from 'node:fs/promises';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';

/** @throws LatchkeyError STATE_NOT_FOUND, INPUT_MALFORMED for what is too large or no file; otherwise the system's error */
export async function readSmallFile(path: string, maxBytes: number): Promise<Buffer> {
  const found = await stat(path).catch((error: unknown) => {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no file ${path}`, {
      hint: 'check its name',
      cause: error,
    });
  });
  if (!found.isFile() || found.size > maxBytes) {
    const reason = found.isFile() ? `is larger than ${maxBytes} bytes` : 'is no file';
    throw new LatchkeyError('INPUT_MALFORMED', `${path} ${reason}`, { hint: 'is it the right one?' });
  }
  return readFile(path);
}
