/** Where the PostgreSQL database is: a URL, or a file that holds one, so that its password is in no command line. */
import { readFile } from 'node:fs/promises';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';

const SCHEMES = ['postgres:', 'postgresql:'];
const HINT = 'give one like postgres://USER@HOST:5432/DATABASE, or a file that holds it';

/** True for a URL that carries a password, in any of its places. */
export function hasPassword(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return url.password !== '' || url.searchParams.has('password');
}

/**
 * @param database - the URL itself, or the path of a file with it
 * @throws LatchkeyError CONFIG_INVALID; it never shows the URL
 */
export async function readDatabaseUrl(database: string): Promise<string> {
  if (isPostgresUrl(database)) return database;
  if (/^[a-z]+:\/\//i.test(database)) throw invalid('the database is no PostgreSQL URL');
  let text: string;
  try {
    text = (await readFile(database, 'utf8')).trim();
  } catch (error) {
    throw invalid(`the database file ${database} cannot be read (${toLatchkeyError(error).message})`, error);
  }
  if (!isPostgresUrl(text)) throw invalid(`the file ${database} holds no PostgreSQL URL`);
  return text;
}

function isPostgresUrl(text: string): boolean {
  return URL.canParse(text) && SCHEMES.includes(new URL(text).protocol);
}

function invalid(message: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('CONFIG_INVALID', message, { hint: HINT, cause });
}
