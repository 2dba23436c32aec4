/** OpenPGP keys from exported files and keyrings (RFC 9580), and which of them a name means. */
import type { Key, PrivateKey, SecretKeyPacket, SecretSubkeyPacket } from 'openpgp';
import { LatchkeyError } from '#src/base/errors.ts';

/** A public key that can be encrypted to. */
export interface PgpRecipientKey {
  readonly key: Key;
  /** Upper-case hexadecimal, as gpg shows it. */
  readonly fingerprint: string;
}

/**
 * Reads exported secret keys, binary or armored.
 * @param what the file's name, for messages
 * @param password opens protected keys
 * @throws LatchkeyError KEY_INVALID; its message and causes never hold the password
 */
export async function parsePgpPrivateKeys(
  bytes: Uint8Array,
  what: string,
  password?: string,
): Promise<readonly PrivateKey[]> {
  const keys = (await readAnyKeys(bytes, what)).filter((key) => key.isPrivate());
  if (keys.length === 0) {
    throw new LatchkeyError('KEY_INVALID', `${what} holds no PGP secret key`, {
      hint: 'export one: gpg --export-secret-keys --output FILE NAME',
    });
  }
  for (const key of keys) await unlock(key, what, password);
  return keys;
}

/** Primary key and subkeys may be protected each for itself, or not; of some, only a stub is exported. */
async function unlock(key: PrivateKey, what: string, password: string | undefined): Promise<void> {
  const packets = key.getKeys().map(({ keyPacket }) => keyPacket as SecretKeyPacket | SecretSubkeyPacket);
  const locked = packets.filter((packet) => !packet.isDecrypted() && !packet.isMissingSecretKeyMaterial());
  if (locked.length === 0) return;
  if (password === undefined) {
    throw new LatchkeyError('KEY_INVALID', `${what} is protected by a password`, {
      hint: 'give the password after the file: FILE:file=PASSWORD_FILE or FILE:fd=NUMBER',
    });
  }
  try {
    for (const packet of locked) {
      await packet.decrypt(password);
      await packet.validate();
    }
  } catch (error) {
    throw new LatchkeyError('KEY_INVALID', `${what} does not open with this password`, {
      hint: 'is it the password of this file?',
      cause: error,
    });
  }
}

/**
 * Reads exported public keys, binary or armored.
 * @throws LatchkeyError KEY_INVALID, also for a secret key
 */
export async function parsePgpPublicKeys(bytes: Uint8Array, what: string): Promise<readonly Key[]> {
  const keys = await readAnyKeys(bytes, what);
  if (!keys.some((key) => key.isPrivate())) return keys;
  throw new LatchkeyError('KEY_INVALID', `${what} is a secret key where a public one is needed`, {
    hint: 'export the public key: gpg --export --output FILE NAME; the secret one stays with its owner',
  });
}

async function readAnyKeys(bytes: Uint8Array, what: string): Promise<Key[]> {
  const { readKeys } = await import('openpgp');
  try {
    const text = Buffer.from(bytes).toString('latin1');
    return text.includes('-----BEGIN PGP ')
      ? await readKeys({ armoredKeys: text })
      : await readKeys({ binaryKeys: new Uint8Array(bytes) });
  } catch (error) {
    throw new LatchkeyError('KEY_INVALID', `${what} is not an exported PGP key`, {
      hint: 'gpg --export --output FILE NAME writes a public key, gpg --export-secret-keys a secret one',
      cause: error,
    });
  }
}

/**
 * The one key that a name means and that can be encrypted to today. As in ocicrypt (keywrap/pgp), a name means a
 * key when it is exactly the name or the mail address of one of its user IDs; here its fingerprint does, too.
 * @param name undefined takes the only key there is
 * @throws LatchkeyError KEY_INVALID when no key is usable, or several are
 */
export async function selectPgpRecipient(
  keys: readonly Key[],
  name: string | undefined,
  where: string,
): Promise<PgpRecipientKey> {
  const named = keys.filter((key) => name === undefined || isNamed(key, name));
  const who = name === undefined ? 'a key' : `a key of ${JSON.stringify(name)}`;
  if (named.length === 0) {
    throw new LatchkeyError('KEY_INVALID', `${where} does not hold ${who}`, {
      hint: 'write the mail address, the whole name or the fingerprint as gpg --list-keys shows it',
    });
  }
  const usable = (await Promise.all(named.map(usableKey))).flat();
  const [only, ...others] = usable;
  if (only === undefined) {
    throw new LatchkeyError('KEY_INVALID', `${where} holds ${who}, but it cannot be encrypted to`, {
      hint: 'it is expired, revoked, too short, or made for signing only',
    });
  }
  if (others.length === 0) return only;
  throw new LatchkeyError('KEY_INVALID', `${where} holds ${usable.length} keys that could be meant`, {
    hint: `name one by its fingerprint: pgp:${usable.map(({ fingerprint }) => fingerprint).join(' or pgp:')}`,
  });
}

function isNamed(key: Key, name: string): boolean {
  const fingerprint = name.replace(/^0x/i, '').replaceAll(' ', '').toUpperCase();
  return (
    fingerprintOf(key) === fingerprint ||
    key.users.some(({ userID }) => userID !== null && (userID.name === name || userID.email === name))
  );
}

async function usableKey(key: Key): Promise<PgpRecipientKey[]> {
  try {
    await key.getEncryptionKey();
    return [{ key, fingerprint: fingerprintOf(key) }];
  } catch {
    // Expired and revoked keys stay in keyrings beside the one that replaced them.
    return [];
  }
}

function fingerprintOf(key: Key): string {
  return key.getFingerprint().toUpperCase();
}
