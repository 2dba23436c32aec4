/** SQLite's result codes for the journal as Latchkey errors (sqlite.org/rescode.html). */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';

const SQLITE_READONLY = 8;
const SQLITE_IOERR = 10;
const SQLITE_CORRUPT = 11;
const SQLITE_CANTOPEN = 14;
const SQLITE_NOTADB = 26;
/** Extended codes keep the primary code in their low byte. */
const PRIMARY_CODE_MASK = 0xff;

/** The advice to move the journal away is for one that is damaged only: with it go the snapshots of all containers. */
export function fromJournalError(error: unknown, path: string): LatchkeyError {
  const known = toLatchkeyError(error);
  if (known.code !== 'BUG_UNEXPECTED' || !(error instanceof Error)) return known;
  const code =
    'errcode' in error && typeof error.errcode === 'number' ? error.errcode & PRIMARY_CODE_MASK : 0;
  switch (code) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return journalDamaged(path, error);
    case SQLITE_READONLY:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
      return new LatchkeyError('STORAGE_FAILED', `${path} cannot be read or written (${error.message})`, {
        hint: 'check the disk and the permissions of the directory',
        cause: error,
      });
    default:
      return known;
  }
}

/** The error for a journal that holds something else than what was written. */
export function journalDamaged(path: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('STATE_DAMAGED', `the snapshot journal ${path} is damaged`, {
    hint: 'move it away and restart the agent and containerd; images are unpacked again',
    cause,
  });
}
