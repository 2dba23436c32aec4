/** Recipients and private keys as commands take them (ocicrypt's `jwe:FILE`). */
import { type KeyObject, createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { parsePrivateKey, parsePublicKey } from '#src/crypto/key-file.ts';

const JWE_PREFIX = 'jwe:';

export interface Recipients {
  readonly keys: readonly KeyObject[];
  /** Names the keys, whatever files they come from. */
  readonly ids: readonly string[];
}

/**
 * Reads the public keys of recipients.
 * @throws LatchkeyError USAGE_INVALID, KEY_INVALID, STATE_NOT_FOUND
 */
export async function readRecipients(recipients: readonly string[]): Promise<Recipients> {
  const keys = await Promise.all(recipients.map(readRecipient));
  const ids = keys.map((key) =>
    createHash('sha256')
      .update(key.export({ format: 'der', type: 'spki' }))
      .digest('hex'),
  );
  return { keys, ids };
}

async function readRecipient(recipient: string): Promise<KeyObject> {
  if (!recipient.startsWith(JWE_PREFIX)) {
    throw new LatchkeyError('USAGE_INVALID', `${JSON.stringify(recipient)} is not a recipient`, {
      hint: "write jwe:FILE with the recipient's public key",
    });
  }
  const path = recipient.slice(JWE_PREFIX.length);
  return parsePublicKey(await readKeyFile(path), path);
}

/**
 * Reads a private key.
 * @throws LatchkeyError KEY_INVALID, STATE_NOT_FOUND
 */
export async function readPrivateKey(path: string): Promise<KeyObject> {
  return parsePrivateKey(await readKeyFile(path), path);
}

async function readKeyFile(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no key file ${path}`, { cause: error });
  }
}
