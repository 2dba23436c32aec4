/** Files that only root may read, written whole or not at all. */
import { open, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode } from '#src/base/errors.ts';
import { makeDirectory } from '#src/base/make-directory.ts';

const PRIVATE_FILE_MODE = 0o600;
const PRIVATE_DIRECTORY_MODE = 0o700;

/** Replaces a file; it is on the disk when this resolves. One writer at a time for each name. */
export async function writePrivateFile(directory: string, name: string, text: string): Promise<void> {
  await makeDirectory(directory, PRIVATE_DIRECTORY_MODE);
  const path = join(directory, name);
  const temporary = `${path}.new`;
  await writeFile(temporary, text, { mode: PRIVATE_FILE_MODE, flush: true });
  await rename(temporary, path);
  const opened = await open(directory);
  try {
    await opened.sync();
  } finally {
    await opened.close();
  }
}

/** Undefined when there is none. */
export async function readPrivateFile(directory: string, name: string): Promise<string | undefined> {
  try {
    return await readFile(join(directory, name), 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
