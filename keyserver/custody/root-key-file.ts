/**
 * Custody by a file. Simple and honest: whoever reads both the file and the database has every key, so the
 * file must be readable by its owner alone and belongs on another disk than the backups.
 */
import { randomBytes } from 'node:crypto';
import { open, readFile, stat } from 'node:fs/promises';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import type { Custody } from './custody.ts';
import { WRAPPING_KEY_BYTES, unwrapKey, wrapKey } from './wrapped-key.ts';

const OWNER_ONLY = 0o600;
const GROUP_AND_WORLD = 0o077;

/**
 * Opens custody with the root key of a file (64 hex digits).
 * @throws LatchkeyError CONFIG_INVALID when it is missing, readable by others, or not a key
 */
export async function openRootKeyFile(path: string): Promise<Custody> {
  const rootKey = await readRootKey(path);
  return {
    wrap: async (key, purpose) => wrapKey(rootKey, key, purpose),
    unwrap: async (wrapped, purpose) => unwrapKey(rootKey, wrapped, purpose),
  };
}

/** Draws a root key into a new file, durable on return; an existing file is left as it is. */
export async function createRootKeyFile(path: string): Promise<void> {
  try {
    const file = await open(path, 'wx', OWNER_ONLY);
    try {
      await file.writeFile(`${randomBytes(WRAPPING_KEY_BYTES).toString('hex')}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
  }
}

async function readRootKey(path: string): Promise<Uint8Array> {
  let text: string;
  try {
    const { mode } = await stat(path);
    if ((mode & GROUP_AND_WORLD) !== 0) {
      throw new LatchkeyError('CONFIG_INVALID', `others can read the root key file ${path}`, {
        hint: `run: chmod 600 ${path}`,
      });
    }
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
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
