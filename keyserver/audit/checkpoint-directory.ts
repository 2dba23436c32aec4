/**
 * Checkpoints kept away from the database: `latest`, and the last one of each day. An older database that is put in
 * place is then found at the next start, and by every auditor who reads the directory.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { makeDirectory } from '#src/base/make-directory.ts';
import { replaceOwnerFile } from '../owner-file.ts';

export interface CheckpointDirectory {
  /** The newest checkpoint; null before the first. */
  latest(): Promise<string | null>;
  keep(note: string, nowMs: number): Promise<void>;
}

const OWNER_ONLY_DIRECTORY = 0o700;
const LATEST = 'latest.checkpoint';

/** @throws LatchkeyError CONFIG_INVALID */
export async function openCheckpointDirectory(path: string | null): Promise<CheckpointDirectory | null> {
  if (path === null) return null;
  try {
    await makeDirectory(path, OWNER_ONLY_DIRECTORY);
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    throw new LatchkeyError('CONFIG_INVALID', `the directory of checkpoints ${path} cannot be made`, {
      hint: 'name a directory with --audit-checkpoints that this user may write to',
      cause: error,
    });
  }
  return {
    latest: async () => {
      try {
        return await readFile(join(path, LATEST), 'utf8');
      } catch (error) {
        if (systemErrorCode(error) === 'ENOENT') return null;
        throw error;
      }
    },
    keep: async (note, nowMs) => {
      const day = new Date(nowMs).toISOString().slice(0, 10);
      await replaceOwnerFile(join(path, `${day}.checkpoint`), note);
      await replaceOwnerFile(join(path, LATEST), note);
    },
  };
}
