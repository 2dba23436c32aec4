/**
 * Custody by a file. Simple and honest: whoever reads both the file and the database has every key, so the
 * file must be readable by its owner alone and belongs on another disk than the backups.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, rename, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { syncDirectory } from '#src/store/blob-file.ts';
import { createOwnerFile, replaceOwnerFile } from '../owner-file.ts';
import type { Custody } from './custody.ts';
import { WRAPPING_KEY_BYTES, unwrapKey, wrapKey } from './wrapped-key.ts';

const GROUP_AND_WORLD = 0o077;
/** What the system says of paths that are wrong, not of disks that fail. */
const UNUSABLE_PATH = ['ENOENT', 'ENOTDIR', 'EISDIR', 'EACCES', 'ELOOP', 'ENAMETOOLONG'];

/** Custody with a root key that is in memory. */
export function keyCustody(rootKey: Uint8Array): Custody {
  return {
    wrap: async (key, purpose) => wrapKey(rootKey, key, purpose),
    unwrap: async (wrapped, purpose) => unwrapKey(rootKey, wrapped, purpose),
  };
}

/**
 * Draws a root key into a new file, durable on return; an existing file is left as it is.
 * @throws LatchkeyError CONFIG_INVALID for a path that cannot hold one
 */
export async function createRootKeyFile(path: string): Promise<void> {
  try {
    await createOwnerFile(path, `${randomBytes(WRAPPING_KEY_BYTES).toString('hex')}\n`);
  } catch (error) {
    if (!UNUSABLE_PATH.includes(systemErrorCode(error) ?? '')) throw error;
    throw unusable(path, error);
  }
}

/**
 * The root key of a file (64 hex digits).
 * @throws LatchkeyError CONFIG_INVALID when it is missing, readable by others, or not a key
 */
export async function readRootKeyFile(path: string): Promise<Uint8Array> {
  let text: string;
  try {
    const status = await stat(path);
    if (!status.isFile()) throw unusable(path);
    if ((status.mode & GROUP_AND_WORLD) !== 0) {
      throw new LatchkeyError('CONFIG_INVALID', `others can read the root key file ${path}`, {
        hint: `run: chmod 600 ${path}`,
      });
    }
    text = await readFile(path, 'utf8');
  } catch (error) {
    const code = systemErrorCode(error) ?? '';
    if (!UNUSABLE_PATH.includes(code)) throw error;
    if (code !== 'ENOENT') throw unusable(path, error);
    throw new LatchkeyError('CONFIG_INVALID', `the root key file ${path} is missing`, {
      hint: 'put it back, or name it with --root-key; without it no key can be opened',
      cause: error,
    });
  }
  if (!/^[0-9a-f]{64}\s*$/.test(text)) {
    throw new LatchkeyError('CONFIG_INVALID', `the root key file ${path} does not hold a root key`, {
      hint: 'it has 64 hex digits; restore it from its backup',
    });
  }
  return Buffer.from(text.trim(), 'hex');
}

/**
 * Puts a new root key beside the file of the one before, durable on return.
 * @throws LatchkeyError CONFIG_INVALID
 */
export async function stageRootKeyFile(path: string, rootKey: Uint8Array): Promise<void> {
  try {
    await replaceOwnerFile(staged(path), `${Buffer.from(rootKey).toString('hex')}\n`);
  } catch (error) {
    if (!UNUSABLE_PATH.includes(systemErrorCode(error) ?? '')) throw error;
    throw unusable(path, error);
  }
}

/** Puts it in the place of the one before. */
export async function takeStagedRootKeyFile(path: string): Promise<void> {
  await rename(staged(path), path);
  await syncDirectory(dirname(path));
}

/**
 * The root key of a file; of the new one beside it where a rotation was cut off between the database and the file.
 * @param opens whether a root key is that of the database
 * @throws LatchkeyError CONFIG_INVALID like `readRootKeyFile`
 */
export async function readCurrentRootKey(
  path: string,
  opens: (rootKey: Uint8Array) => boolean,
): Promise<Uint8Array> {
  const rootKey = await readRootKeyFile(path);
  if (opens(rootKey) || !existsSync(staged(path))) return rootKey;
  const next = await readRootKeyFile(staged(path));
  if (!opens(next)) return rootKey;
  await takeStagedRootKeyFile(path);
  return next;
}

function staged(path: string): string {
  return `${path}.new`;
}

function unusable(path: string, cause?: unknown): LatchkeyError {
  return new LatchkeyError('CONFIG_INVALID', `${path} cannot be used as the root key file`, {
    hint: 'name a file with --root-key, in a directory that exists and that this user may read',
    cause,
  });
}
