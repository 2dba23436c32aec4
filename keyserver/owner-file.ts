/** Files for their owner alone that appear whole or not at all, and survive a power cut. */
import { randomUUID } from 'node:crypto';
import { link, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemErrorCode } from '#src/base/errors.ts';
import { syncDirectory } from '#src/store/blob-file.ts';

const OWNER_ONLY = 0o600;

/** Writes a file in place of the one that is there, whoever could read that. */
export async function replaceOwnerFile(path: string, text: string): Promise<void> {
  await viaTemporaryFile(path, text, (temporary) => rename(temporary, path));
}

/** Writes a new file; whatever has that name already is left as it is. */
export async function createOwnerFile(path: string, text: string): Promise<void> {
  await viaTemporaryFile(path, text, async (temporary) => {
    try {
      await link(temporary, path);
    } catch (error) {
      if (systemErrorCode(error) !== 'EEXIST') throw error;
    }
  });
}

async function viaTemporaryFile(
  path: string,
  text: string,
  give: (temporary: string) => Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomUUID()}.new`;
  try {
    const file = await open(temporary, 'wx', OWNER_ONLY);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await give(temporary);
  } finally {
    await rm(temporary, { force: true });
  }
  await syncDirectory(dirname(path));
}
