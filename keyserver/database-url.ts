/** Where the PostgreSQL database is: a URL, or a file that holds one, so that its password is in no command line. */
import { readFile } from 'node:fs/promises';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';

const SCHEMES = ['postgres:', 'postgresql:'];
/** Up to the user's name, the servers, and the rest. */
const SEVERAL_HOSTS = /^([a-z]+:\/\/(?:[^/?#]*@)?)([^/?#@]*)(.*)$/isu;
/** libpq's word for which of several servers to use; ours is always the one that takes writes. */
const WANTED = 'target_session_attrs';
const WRITABLE = ['read-write', 'primary'];
const HINT = 'give one like postgres://USER@HOST:5432/DATABASE, or a file that holds it';

/** True for a URL that carries a password, in any of its places. */
export function hasPassword(text: string): boolean {
  return hostUrls(text).some((hostUrl) => {
    if (!URL.canParse(hostUrl)) return false;
    const url = new URL(hostUrl);
    return url.password !== '' || url.searchParams.has('password');
  });
}

/** One URL for each server of a URL that names several, as those of libpq do: `postgres://USER@HOST1:5432,HOST2/DATABASE`. */
export function hostUrls(text: string): string[] {
  const [, before = '', hosts = '', after = ''] = SEVERAL_HOSTS.exec(text) ?? [];
  if (before === '') return [text];
  return hosts.split(',').map((host) => `${before}${host}${after}`);
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
  const urls = hostUrls(text);
  return urls.every((url) => {
    if (!URL.canParse(url)) return false;
    const { protocol, hostname, searchParams } = new URL(url);
    // A missing name among several would be this machine, unasked for.
    if (urls.length > 1 && hostname === '') return false;
    return SCHEMES.includes(protocol) && WRITABLE.includes(searchParams.get(WANTED) ?? 'primary');
  });
}

function invalid(message: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('CONFIG_INVALID', message, { hint: HINT, cause });
}
