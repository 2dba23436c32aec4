/** Key files and their passwords, as commands are told where to find them. */
import { createReadStream, fstatSync } from 'node:fs';
import { readBounded, readBoundedFile } from '#src/base/bounded-file.ts';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { MAX_KEY_FILE_BYTES, MAX_PASSWORD_BYTES } from '#src/base/limits.ts';
import type { PasswordSource } from '#src/keywrap/recipient.ts';

/**
 * Reads a key file.
 * @throws LatchkeyError STATE_NOT_FOUND, KEY_INVALID when it is too large to be one, STORAGE_FAILED
 */
export async function readKeyFile(path: string): Promise<Buffer> {
  return readNamedFile(path, 'key file', MAX_KEY_FILE_BYTES);
}

/**
 * Reads a small file that the user has named.
 * @param what it should be, for messages: `key file`
 * @throws LatchkeyError STATE_NOT_FOUND, KEY_INVALID when it cannot be one, STORAGE_FAILED
 */
export async function readNamedFile(path: string, what: string, limitBytes: number): Promise<Buffer> {
  const hint = `name the file of a ${what.replace(/ file$/, '')}`;
  let bytes: Buffer | undefined;
  try {
    bytes = await readBoundedFile(path, limitBytes);
  } catch (error) {
    if (systemErrorCode(error) === 'EISDIR') {
      throw new LatchkeyError('KEY_INVALID', `${path} is a directory`, { hint, cause: error });
    }
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no ${what} ${path}`, {
      hint: 'check the path',
      cause: error,
    });
  }
  if (bytes !== undefined) return bytes;
  throw new LatchkeyError('KEY_INVALID', `${path} is larger than ${limitBytes} bytes: it is no ${what}`, {
    hint,
  });
}

/**
 * Reads a password. One line end after it is not part of it.
 * @throws LatchkeyError KEY_INVALID, STATE_NOT_FOUND, STORAGE_FAILED; none holds the password
 */
export async function readPassword(source: PasswordSource): Promise<string> {
  if (source.kind === 'text') return source.text;
  const where = source.kind === 'file' ? `the password file ${source.path}` : `fd=${source.descriptor}`;
  try {
    const bytes =
      source.kind === 'file'
        ? await readBoundedFile(source.path, MAX_PASSWORD_BYTES)
        : await readDescriptor(source.descriptor);
    if (bytes !== undefined) return bytes.toString().replace(/\r?\n$/, '');
  } catch (error) {
    if (!UNREADABLE.includes(systemErrorCode(error) ?? '')) throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `${where} cannot be read`, {
      hint: 'for example: --key key.pem:fd=3 3<password.txt',
      cause: error,
    });
  }
  throw new LatchkeyError('KEY_INVALID', `${where} is longer than ${MAX_PASSWORD_BYTES} bytes`, {
    hint: 'name a file that holds the password alone',
  });
}

const UNREADABLE = ['ENOENT', 'EBADF', 'EAGAIN', 'EINVAL', 'EISDIR'];

/** Reads what the caller of this process has opened; the runtime has descriptors of its own, which are none of these. */
async function readDescriptor(descriptor: number): Promise<Buffer | undefined> {
  const found = fstatSync(descriptor);
  if (!found.isFIFO() && !found.isFile() && !found.isSocket() && !found.isCharacterDevice()) {
    throw Object.assign(new Error('not a pipe, file or terminal'), { code: 'EBADF' });
  }
  return readBounded(createReadStream('', { fd: descriptor, autoClose: false }), MAX_PASSWORD_BYTES);
}
