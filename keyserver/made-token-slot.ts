/** A slot for a token that is here. */
import { createTokenDecryption, readTokenPublicKey } from '#src/keywrap/pkcs11-token.ts';
import { type RootKeySlot, openRootKey } from './custody/root-key-slot.ts';
import { type RootKeyTokenUri, locateToken } from './custody/root-key-token.ts';
import type { SlotOwner } from './custody/shared-slot.ts';
import { createTokenSlot, openingOfToken } from './custody/token-slot.ts';

/**
 * Makes the slot, and opens it once: a token that can only encrypt is found out before anything hangs on it.
 * @throws LatchkeyError KEY_INVALID, KEY_NOT_FOUND, and what the token fails with
 */
export async function makeTokenSlot(
  owner: SlotOwner,
  rootKey: Uint8Array,
  uri: RootKeyTokenUri,
): Promise<RootKeySlot> {
  const location = await locateToken(uri);
  const slot = createTokenSlot(owner, rootKey, await readTokenPublicKey(location));
  openRootKey(owner.organizationId, [slot], await openingOfToken([slot], createTokenDecryption(location)));
  return slot;
}

/** The root key, as a token that is here opens it. It @throws like the one before. */
export async function openByToken(
  organizationId: string,
  slots: readonly RootKeySlot[],
  uri: RootKeyTokenUri,
): Promise<Uint8Array> {
  const decrypt = createTokenDecryption(await locateToken(uri));
  return openRootKey(organizationId, slots, await openingOfToken(slots, decrypt));
}
