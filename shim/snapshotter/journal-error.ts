/** SQLite's failures of the journal as Latchkey errors. */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { sqliteFailure } from '#src/base/sqlite-failure.ts';

/** The advice to move the journal away is for one that is damaged only: with it go the snapshots of all containers. */
export function fromJournalError(error: unknown, path: string): LatchkeyError {
  switch (sqliteFailure(error)) {
    case 'damaged':
      return journalDamaged(path, error);
    case 'unusable':
      return new LatchkeyError(
        'STORAGE_FAILED',
        `${path} cannot be read or written (${(error as Error).message})`,
        {
          hint: 'check the disk and the permissions of the directory',
          cause: error,
        },
      );
    case 'full':
      return new LatchkeyError('STORAGE_FULL', `the disk of ${path} is full (${(error as Error).message})`, {
        hint: 'free some space on it and try again',
        cause: error,
      });
    default:
      return toLatchkeyError(error);
  }
}

/** The error for a journal that holds something else than what was written. */
export function journalDamaged(path: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('STATE_DAMAGED', `the snapshot journal ${path} is damaged`, {
    hint: 'move it away and restart the agent and containerd; images are unpacked again',
    cause,
  });
}
