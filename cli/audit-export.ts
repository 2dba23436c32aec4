/** Writes the audit log to a file. */
import { link, lstat, open, rm } from 'node:fs/promises';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';

/**
 * Writes events, or lines of another kind, to a new file, one JSON document a line. Never overwrites, for an export is evidence; and the
 * file gets its name only when it is whole.
 * @returns the number of lines
 * @throws LatchkeyError STATE_CONFLICT when the file exists; what the events raise
 */
export async function writeAuditExport(path: string, events: AsyncIterable<object>): Promise<number> {
  // Before the work; `link` below is what keeps a file that appears meanwhile.
  if (await exists(path)) throw taken(path);
  const unfinished = `${path}.new`;
  const file = await open(unfinished, 'wx', 0o600).catch((error: unknown) => {
    throw systemErrorCode(error) === 'EEXIST' ? taken(unfinished) : error;
  });
  try {
    let count = 0;
    try {
      for await (const event of events) {
        await file.write(`${JSON.stringify(event)}\n`);
        count += 1;
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await link(unfinished, path);
    return count;
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

function taken(path: string): LatchkeyError {
  return new LatchkeyError('STATE_CONFLICT', `${path} exists already`, {
    hint: 'name a new file, or move this one away first',
  });
}
