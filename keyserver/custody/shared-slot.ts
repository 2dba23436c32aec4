/** Slots whose key is shared among people. */
import { createHash, randomBytes } from 'node:crypto';
import {
  type KeyShare,
  SHARED_KEY_BYTES,
  type ShareTerms,
  formatKeyShare,
  splitKey,
} from '#src/crypto/key-share.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  type RootKeySlot,
  type ShareParameters,
  keyCheck,
  rootKeyPurpose,
  shareParameters,
} from './root-key-slot.ts';
import { wrapKey } from './wrapped-key.ts';

export interface SlotOwner {
  readonly organizationId: string;
  readonly slotId: string;
  readonly label: string;
  readonly nowMs: number;
}

export interface NewSharedSlot {
  readonly slot: RootKeySlot;
  readonly threshold: number;
  /** Secret, and nowhere else: one for each person. */
  readonly shares: readonly string[];
}

/** Makes a slot under a new random key, which only the shares give. */
export async function createSharedSlot(
  { organizationId, slotId, label, nowMs }: SlotOwner,
  rootKey: Uint8Array,
  terms: ShareTerms,
): Promise<NewSharedSlot> {
  const slotKey = randomBytes(SHARED_KEY_BYTES);
  const shares = await splitKey(slotKey, terms);
  const parameters: ShareParameters = {
    setId: shares[0]?.setId ?? '',
    threshold: terms.threshold,
    shareDigests: shares.map(({ share }) => shareDigest(share)),
  };
  const slot: RootKeySlot = {
    id: slotId,
    organization_id: organizationId,
    kind: 'shamir',
    label,
    created_at_ms: nowMs,
    key_check: keyCheck(slotKey, organizationId, slotId),
    wrapped_root_key: wrapKey(slotKey, rootKey, rootKeyPurpose(organizationId, slotId)),
    parameters: JSON.stringify(parameters),
  };
  slotKey.fill(0);
  return { slot, threshold: terms.threshold, shares: shares.map(formatKeyShare) };
}

/**
 * Finds the slot of a share, and refuses one that is not as it was made.
 * @throws LatchkeyError KEY_INVALID
 */
export function slotOfShare(
  slots: readonly RootKeySlot[],
  share: KeyShare,
): { readonly slot: RootKeySlot; readonly parameters: ShareParameters } {
  for (const slot of slots) {
    if (slot.kind !== 'shamir') continue;
    const parameters = shareParameters(slot);
    if (parameters.setId !== share.setId) continue;
    const isGenuine =
      parameters.threshold === share.threshold &&
      parameters.shareDigests[share.number - 1] === shareDigest(share.share);
    if (isGenuine) return { slot, parameters };
    throw new LatchkeyError('KEY_INVALID', `share ${share.number} of the slot ${slot.label} is not genuine`, {
      hint: 'take it from where it was written down first',
    });
  }
  throw new LatchkeyError(
    'KEY_INVALID',
    'this share belongs to another key server, or to a set that was replaced',
    {
      hint: 'see `latchkey server status` for the slots that count; a backup takes those of when it was made',
    },
  );
}

/** A share has as many random bits as the key, so its digest tells nothing about it. */
function shareDigest(share: Uint8Array): string {
  return createHash('sha256').update('latchkey/share-digest').update(share).digest('hex');
}
