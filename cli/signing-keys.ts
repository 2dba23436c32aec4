/** Keys of release statements, as commands take them. */
import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { parseSigningKey, parseVerificationKey } from '#src/crypto/signing-key.ts';

/**
 * Reads the private key that signs statements.
 * @throws LatchkeyError KEY_INVALID, STATE_NOT_FOUND
 */
export async function readSigningKey(path: string): Promise<KeyObject> {
  return parseSigningKey(await readExisting(path, 'key file'), path);
}

/**
 * Reads public keys that verify statements.
 * @throws LatchkeyError KEY_INVALID, STATE_NOT_FOUND
 */
export async function readVerificationKeys(paths: readonly string[]): Promise<KeyObject[]> {
  return Promise.all(
    paths.map(async (path) => parseVerificationKey(await readExisting(path, 'key file'), path)),
  );
}

/**
 * Reads a file that the user has named.
 * @throws LatchkeyError STATE_NOT_FOUND
 */
export async function readExisting(path: string, what: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no ${what} ${path}`, {
      hint: 'check the path',
      cause: error,
    });
  }
}
