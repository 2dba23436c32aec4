/** Files that get their name only when they are whole, and never take the place of one that is there. */
import { type FileHandle, link, lstat, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';

/**
 * Has a new file written, for its owner alone, and makes it durable.
 * @throws LatchkeyError STATE_CONFLICT when the file exists, STATE_NOT_FOUND without its directory; what the writing throws
 */
export async function writeWholeFile<Result>(
  path: string,
  write: (file: FileHandle) => Promise<Result>,
): Promise<Result> {
  // Before the work; `link` below is what keeps a file that appears meanwhile.
  if (await exists(path)) throw taken(path);
  const unfinished = `${path}.new`;
  const file = await open(unfinished, 'wx', 0o600).catch((error: unknown) => {
    throw notBegun(error, path, unfinished);
  });
  try {
    let result;
    try {
      result = await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await link(unfinished, path);
    return result;
  } catch (error) {
    throw systemErrorCode(error) === 'EEXIST' ? taken(path) : error;
  } finally {
    await rm(unfinished, { force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error: unknown) => {
      if (systemErrorCode(error) === 'ENOENT') return false;
      throw error;
    },
  );
}

/** The name that was given says more than the one that it has until it is whole. */
function notBegun(error: unknown, path: string, unfinished: string): unknown {
  switch (systemErrorCode(error)) {
    case 'EEXIST':
      return taken(unfinished);
    case 'ENOENT':
      return new LatchkeyError('STATE_NOT_FOUND', `there is no directory for ${path}`, {
        hint: `make it (mkdir -p ${dirname(unfinished)}), or name another place`,
        cause: error,
      });
    default:
      return error instanceof Error && 'path' in error ? Object.assign(error, { path }) : error;
  }
}

function taken(path: string): LatchkeyError {
  return new LatchkeyError('STATE_CONFLICT', `${path} exists already`, {
    hint: 'name a new file, or move this one away first',
  });
}
