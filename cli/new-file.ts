/** Files that a command makes and never overwrites, such as keys. */
import { open, rm } from 'node:fs/promises';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';

export interface NewFileOptions {
  readonly mode: number;
  /** What to do when the file is there already. */
  readonly hint: string;
}

/**
 * Writes a new file and makes it durable; leaves nothing behind when it fails.
 * @throws LatchkeyError STATE_CONFLICT when there is one; otherwise the system's error
 */
export async function writeNewFile(
  path: string,
  content: string | Uint8Array,
  { mode, hint }: NewFileOptions,
): Promise<void> {
  const file = await open(path, 'wx', mode).catch((error: unknown) => {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
    throw new LatchkeyError('STATE_CONFLICT', `${path} exists already and is not overwritten`, {
      hint,
      cause: error,
    });
  });
  try {
    await file.writeFile(content);
    await file.sync();
  } catch (error) {
    // Half a file would be in the way of the next attempt.
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}
