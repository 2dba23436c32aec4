/** How a key server unseals at its start, without anybody's help: by the file of its root key, or by a token. */
import { existsSync } from 'node:fs';
import type { Logger } from 'pino';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { isPinRefused } from '#src/keywrap/pkcs11-session.ts';
import { createTokenDecryption } from '#src/keywrap/pkcs11-token.ts';
import type { ServeOptions } from './arguments.ts';
import { readCurrentRootKey } from './custody/root-key-file.ts';
import { type RootKeyOpening, type RootKeySlot, keyCheck } from './custody/root-key-slot.ts';
import { type RootKeyTokenUri, locateToken } from './custody/root-key-token.ts';
import { openingOfToken } from './custody/token-slot.ts';
import type { Store } from './db/store.ts';
import { requireOrganization } from './domain/organization.ts';
import { rootKeySlots } from './domain/root-key-slots.ts';
import type { Seal } from './domain/seal.ts';

/**
 * What opens the root key; null = the key server starts sealed.
 * @throws LatchkeyError CONFIG_INVALID for the file, and what a token fails with that nothing can stand in for
 */
export async function unattendedOpening(
  store: Store,
  options: Pick<ServeOptions, 'startsSealed' | 'rootKeyFile' | 'rootKeyToken'>,
  logger: Logger,
): Promise<RootKeyOpening | null> {
  if (options.startsSealed) return null;
  const { id } = await requireOrganization(store);
  const slots = await rootKeySlots(store.read, id);
  const has = (kind: RootKeySlot['kind']) => slots.some((slot) => slot.kind === kind);
  if (options.rootKeyToken !== null && has('pkcs11')) {
    return openingByToken(options.rootKeyToken, slots, logger);
  }
  // A database of before there were slots has a file.
  if (slots.length > 0 && !has('file')) return null;
  // Whoever has taken the file away has another way to open the root key.
  if (slots.some(({ kind }) => kind !== 'file') && !existsSync(options.rootKeyFile)) return null;
  const opens = (rootKey: Uint8Array) =>
    slots.some((slot) => slot.kind === 'file' && slot.key_check === keyCheck(rootKey, id, slot.id));
  return { kind: 'file', rootKey: await readCurrentRootKey(options.rootKeyFile, opens) };
}

/** Unseals, where what does not fit is the configuration. */
export async function unsealUnattended(seal: Seal, opening: RootKeyOpening | null): Promise<void> {
  if (opening === null) return;
  try {
    await seal.unseal(opening);
  } catch (error) {
    if (!(error instanceof LatchkeyError) || error.code !== 'KEY_INVALID') throw error;
    throw new LatchkeyError('CONFIG_INVALID', 'the root key does not open this database', {
      hint: 'use the root key file this database was made with',
      cause: error,
    });
  }
}

/** One line for whoever runs a key server whose root key is in a file, or that nothing else opens. */
export async function warnOfCustody(store: Store, logger: Logger): Promise<void> {
  const { id } = await requireOrganization(store);
  const slots = await rootKeySlots(store.read, id);
  const isBehindFile = slots.some(({ kind }) => kind === 'file');
  const faults = [
    ...(isBehindFile ? ['the root key is in a file, which is for development'] : []),
    ...(slots.length < 2 ? ['nothing but one slot opens the root key'] : []),
  ];
  if (faults.length > 0) logger.warn({ mend: 'latchkey server doctor' }, faults.join('; '));
}

/** Null when the token fails and people can stand in for it. */
async function openingByToken(
  uri: RootKeyTokenUri,
  slots: readonly RootKeySlot[],
  logger: Logger,
): Promise<RootKeyOpening | null> {
  try {
    return await openingOfToken(slots, createTokenDecryption(await locateToken(uri)));
  } catch (error) {
    // A service manager would start it again and again, and lock the token with a wrong PIN.
    const canWait = isPinRefused(error) || slots.some(({ kind }) => kind !== 'pkcs11');
    if (!canWait) throw error;
    const { code, message } = toLatchkeyError(error);
    logger.error({ code, cause: message }, 'the token does not open the root key; starting sealed');
    return null;
  }
}
