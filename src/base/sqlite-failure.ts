/** What SQLite has failed of: node:sqlite names every failure ERR_SQLITE_ERROR, its number tells (sqlite.org/rescode.html). */

export type SqliteFailure = 'busy' | 'full' | 'damaged' | 'unusable';

/** Extended codes keep the primary code in their low byte. */
const PRIMARY_CODE_MASK = 0xff;
/** No room for the file that the users of a database share: an extended code of an I/O error. */
const SQLITE_IOERR_SHMSIZE = 4874;

const PRIMARY_CODES: ReadonlyMap<number, SqliteFailure> = new Map([
  [5, 'busy'], // SQLITE_BUSY
  [8, 'unusable'], // SQLITE_READONLY
  [10, 'unusable'], // SQLITE_IOERR
  [11, 'damaged'], // SQLITE_CORRUPT
  [13, 'full'], // SQLITE_FULL
  [14, 'unusable'], // SQLITE_CANTOPEN
  [26, 'damaged'], // SQLITE_NOTADB
]);

/** Null for what is not of SQLite, or neither of these: a mistake in a query, say. */
export function sqliteFailure(error: unknown): SqliteFailure | null {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return null;
  if (error.errcode === SQLITE_IOERR_SHMSIZE) return 'full';
  return PRIMARY_CODES.get(error.errcode & PRIMARY_CODE_MASK) ?? null;
}
