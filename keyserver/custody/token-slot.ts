/**
 * Slots whose key only a PKCS#11 token opens: it is encrypted to an RSA key whose private half never leaves the token. The
 * database names no module and no token; those are the operator's, for loading a module runs its code.
 */
import { type KeyObject, constants, publicEncrypt, randomBytes } from 'node:crypto';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { decodeBase64, encodeBase64 } from '#src/crypto/base64.ts';
import type { TokenDecryption } from '#src/keywrap/pkcs11.ts';
import {
  type RootKeyOpening,
  type RootKeySlot,
  keyCheck,
  rootKeyPurpose,
  slotParameters,
} from './root-key-slot.ts';
import type { SlotOwner } from './shared-slot.ts';
import { WRAPPING_KEY_BYTES, wrapKey } from './wrapped-key.ts';

/** What every token can do; the security of OAEP does not hang on the collisions of its hash (RFC 8017, B.1). */
const OAEP_HASH = 'sha1';
/** NIST SP 800-57: what is still to open something after 2030. */
const MIN_RSA_BITS = 3072;

const parametersSchema = z.object({ encryptedSlotKey: z.string() });

/**
 * Makes a slot for the key of a token.
 * @throws LatchkeyError KEY_INVALID for one that is too short
 */
export function createTokenSlot(
  { organizationId, slotId, label, nowMs }: SlotOwner,
  rootKey: Uint8Array,
  publicKey: KeyObject,
): RootKeySlot {
  const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? 0;
  if (bits < MIN_RSA_BITS) {
    throw new LatchkeyError('KEY_INVALID', `the RSA key on the token has ${bits} bits`, {
      hint: `make one of ${MIN_RSA_BITS} bits or more`,
    });
  }
  const slotKey = randomBytes(WRAPPING_KEY_BYTES);
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  const encrypted = publicEncrypt({ key: publicKey, padding, oaepHash: OAEP_HASH }, slotKey);
  const slot: RootKeySlot = {
    id: slotId,
    organization_id: organizationId,
    kind: 'pkcs11',
    label,
    created_at_ms: nowMs,
    key_check: keyCheck(slotKey, organizationId, slotId),
    wrapped_root_key: wrapKey(slotKey, rootKey, rootKeyPurpose(organizationId, slotId)),
    parameters: JSON.stringify({ encryptedSlotKey: encodeBase64(encrypted) }),
  };
  slotKey.fill(0);
  return slot;
}

/**
 * Has the token open one of the slots that were made for its key.
 * @throws LatchkeyError KEY_INVALID when it opens none, and what the token fails with
 */
export async function openingOfToken(
  slots: readonly RootKeySlot[],
  decrypt: TokenDecryption,
): Promise<RootKeyOpening> {
  for (const slot of slots) {
    if (slot.kind !== 'pkcs11') continue;
    const { encryptedSlotKey } = slotParameters(slot, parametersSchema);
    const ciphertext = decodeBase64(encryptedSlotKey);
    if (ciphertext === undefined) continue;
    const slotKey = await decrypt([{ ciphertext, hash: OAEP_HASH }]);
    if (slotKey?.length === WRAPPING_KEY_BYTES) return { kind: 'pkcs11', slotKey };
  }
  throw new LatchkeyError('KEY_INVALID', 'the key on the token opens no slot of this database', {
    hint: 'is it the token, and the key on it, that the key server was made with?',
  });
}
