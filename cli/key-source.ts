/** Key files and their passwords, as commands are told where to find them. */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { MAX_KEY_FILE_BYTES, MAX_PASSWORD_BYTES } from '#src/base/limits.ts';
import type { PasswordSource } from '#src/keywrap/recipient.ts';

/**
 * Reads a key file.
 * @throws LatchkeyError STATE_NOT_FOUND, KEY_INVALID when it is too large to be one, STORAGE_FAILED
 */
export async function readKeyFile(path: string): Promise<Buffer> {
  const file = await open(path).catch((error: unknown) => {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no key file ${path}`, {
      hint: 'check the path',
      cause: error,
    });
  });
  const bytes = await readAtMost(file.createReadStream(), MAX_KEY_FILE_BYTES).catch((error: unknown) => {
    if (systemErrorCode(error) !== 'EISDIR') throw error;
    throw new LatchkeyError('KEY_INVALID', `${path} is a directory`, { hint: 'name the file of a key' });
  });
  if (bytes !== undefined) return bytes;
  throw new LatchkeyError(
    'KEY_INVALID',
    `${path} is larger than ${MAX_KEY_FILE_BYTES} bytes: it is no key file`,
    { hint: 'name the file of a key' },
  );
}

/**
 * Reads a password. One line end after it is not part of it.
 * @throws LatchkeyError KEY_INVALID, STATE_NOT_FOUND, STORAGE_FAILED; none holds the password
 */
export async function readPassword(source: PasswordSource): Promise<string> {
  if (source.kind === 'text') return source.text;
  const where = source.kind === 'file' ? `the password file ${source.path}` : `fd=${source.descriptor}`;
  const stream =
    source.kind === 'file' ? createReadStream(source.path) : createReadStream('', { fd: source.descriptor });
  try {
    const bytes = await readAtMost(stream, MAX_PASSWORD_BYTES);
    if (bytes !== undefined) return bytes.toString().replace(/\r?\n$/, '');
  } catch (error) {
    const code = systemErrorCode(error);
    if (code !== 'ENOENT' && code !== 'EBADF' && code !== 'EAGAIN') throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `${where} cannot be read`, {
      hint: 'for example: --key key.pem:fd=3 3<password.txt',
      cause: error,
    });
  }
  throw new LatchkeyError('KEY_INVALID', `${where} is longer than ${MAX_PASSWORD_BYTES} bytes`, {
    hint: 'name a file that holds the password alone',
  });
}

async function readAtMost(stream: AsyncIterable<Buffer>, limitBytes: number): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of stream) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
