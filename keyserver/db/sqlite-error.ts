/** SQLite's result codes as Latchkey errors (sqlite.org/rescode.html). */
import { LatchkeyError } from '#src/base/errors.ts';

const SQLITE_BUSY = 5;
const SQLITE_READONLY = 8;
const SQLITE_IOERR = 10;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_CANTOPEN = 14;
const SQLITE_NOTADB = 26;
/** Extended codes keep the primary code in their low byte. */
const PRIMARY_CODE_MASK = 0xff;

/** Gives the LatchkeyError that fits; anything but a storage failure comes back as it is. */
export function fromSqliteError(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return error;
  switch (error.errcode & PRIMARY_CODE_MASK) {
    case SQLITE_BUSY:
      return new LatchkeyError('STATE_CONFLICT', `another key server is using ${path}`, {
        hint: 'stop it first, or start this one with another --data directory',
        cause: error,
      });
    case SQLITE_FULL:
      return new LatchkeyError('STORAGE_FULL', `the disk of ${path} is full`, {
        hint: 'free some space; what was acknowledged before is safe',
        cause: error,
      });
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return databaseDamaged(path, error);
    case SQLITE_IOERR:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
      return new LatchkeyError('STORAGE_FAILED', `${path} cannot be read or written (${error.message})`, {
        hint: 'check the disk and the permissions of the directory',
        cause: error,
      });
    default:
      return error;
  }
}

/** The error for a database file that SQLite cannot read. */
export function databaseDamaged(path: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('STATE_DAMAGED', `the database ${path} is damaged`, {
    hint: 'restore it from a backup; Latchkey has not changed it',
    cause,
  });
}
