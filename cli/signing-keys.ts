/** Keys of release statements, as commands take them. */
import type { KeyObject } from 'node:crypto';
import { parseSigningKey, parseVerificationKey } from '#src/crypto/signing-key.ts';
import { readKeyFile } from './key-source.ts';

/**
 * Reads the private key that signs statements.
 * @throws LatchkeyError KEY_INVALID, STATE_NOT_FOUND
 */
export async function readSigningKey(path: string): Promise<KeyObject> {
  return parseSigningKey(await readKeyFile(path), path);
}

/**
 * Reads public keys that verify statements.
 * @throws LatchkeyError KEY_INVALID, STATE_NOT_FOUND
 */
export async function readVerificationKeys(paths: readonly string[]): Promise<KeyObject[]> {
  return Promise.all(paths.map(async (path) => parseVerificationKey(await readKeyFile(path), path)));
}
