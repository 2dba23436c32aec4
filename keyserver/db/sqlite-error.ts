/** SQLite's failures as Latchkey errors. */
import { LatchkeyError } from '#src/base/errors.ts';
import { sqliteFailure } from '#src/base/sqlite-failure.ts';

/** Gives the LatchkeyError that fits; anything but a storage failure comes back as it is. */
export function fromSqliteError(error: unknown, path: string): unknown {
  switch (sqliteFailure(error)) {
    case 'busy':
      return new LatchkeyError('STATE_CONFLICT', `another key server is using ${path}`, {
        hint: 'stop it first, or start this one with another --data directory',
        cause: error,
      });
    case 'full':
      return new LatchkeyError('STORAGE_FULL', `the disk of ${path} is full`, {
        hint: 'free some space; what was acknowledged before is safe',
        cause: error,
      });
    case 'damaged':
      return databaseDamaged(path, error);
    case 'unusable':
      return new LatchkeyError(
        'STORAGE_FAILED',
        `${path} cannot be read or written (${(error as Error).message})`,
        {
          hint: 'check the disk and the permissions of the directory',
          cause: error,
        },
      );
    case null:
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
