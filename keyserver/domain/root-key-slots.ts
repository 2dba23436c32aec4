/** The slots of the root key: listed, added, replaced and removed. Each change takes what opens the root key already. */
import { timingSafeEqual } from 'node:crypto';
import { LatchkeyError } from '#src/base/errors.ts';
import type {
  AddedSharedSlot,
  RootKeyProof,
  RootKeySlotInfo,
  SharedSlotInput,
} from '#src/wire/admin/seal.ts';
import type { Actor } from '../audit/append-event.ts';
import { type RootKeySlot, keyCheck, openRootKey, shareParameters } from '../custody/root-key-slot.ts';
import { type SlotOwner, createSharedSlot } from '../custody/shared-slot.ts';
import type { Reader, Store } from '../db/store.ts';
import { type Change, runChange } from './change.ts';
import { openingOfShares } from './given-shares.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { sealed } from './seal.ts';

export function rootKeySlots(reader: Reader, organizationId: string): Promise<RootKeySlot[]> {
  return reader
    .selectFrom('root_key_slot')
    .selectAll()
    .where('organization_id', '=', organizationId)
    .orderBy('id')
    .execute();
}

/** The slot of a root key that a file holds. */
export function newFileSlot(
  { organizationId, slotId, label, nowMs }: SlotOwner,
  rootKey: Uint8Array,
): RootKeySlot {
  return {
    id: slotId,
    organization_id: organizationId,
    kind: 'file',
    label,
    created_at_ms: nowMs,
    key_check: keyCheck(rootKey, organizationId, slotId),
    wrapped_root_key: null,
    parameters: '{}',
  };
}

/** Gives a database of before there were slots the one that it has been opened by. */
export function addMissingFileSlot(
  store: Store,
  organizationId: string,
  rootKey: Uint8Array,
  nowMs: number,
): Promise<void> {
  return store.write(async (writer) => {
    // Another key server may have been faster.
    if ((await rootKeySlots(writer, organizationId)).length > 0) return;
    await writer
      .insertInto('root_key_slot')
      .values(newFileSlot({ organizationId, slotId: newId('slot', nowMs), label: 'primary', nowMs }, rootKey))
      .execute();
  });
}

/** A slot without anything that opens it. */
export function describeSlot(slot: RootKeySlot, given: (setId: string) => number): RootKeySlotInfo {
  const { id, kind, label, created_at_ms: createdAtMs } = slot;
  if (kind !== 'shamir') return { id, kind, label, createdAtMs, shares: null };
  const { setId, threshold, shareDigests } = shareParameters(slot);
  return {
    id,
    kind,
    label,
    createdAtMs,
    shares: { count: shareDigests.length, threshold, given: given(setId) },
  };
}

/**
 * Shares the root key among people, in a new slot. One that it replaces gives it its label, and opens the root key until it
 * is removed: an answer that is lost must not leave keys that nobody opens.
 * @throws LatchkeyError DENIED_SEALED, KEY_INVALID without what opens the root key, STATE_CONFLICT when the label is taken
 */
export async function addSharedSlot(
  server: KeyServer,
  actor: Actor,
  { label, shares: count, threshold, replaces, proof }: SharedSlotInput,
): Promise<AddedSharedSlot> {
  const { organizationId } = server;
  const rootKey = await provenRootKey(server, proof);
  const nowMs = server.clock.nowMs();
  const slotId = newId('slot', nowMs);
  const terms = { shares: count, threshold };
  const { slot, shares } = await createSharedSlot({ organizationId, slotId, label, nowMs }, rootKey, terms);
  const replacedSlotId = await runChange(server, actor, async (change) => {
    const slots = await rootKeySlots(change.writer, organizationId);
    requireSameRootKey(server, rootKey);
    const before = slots.find((other) => other.label === label);
    if (before !== undefined && !(replaces && before.kind === 'shamir')) throw taken(label, before);
    if (before !== undefined) {
      const without = { label: `replaced ${before.id}` };
      await change.writer.updateTable('root_key_slot').set(without).where('id', '=', before.id).execute();
    }
    await change.writer.insertInto('root_key_slot').values(slot).execute();
    const replaced = before?.id ?? null;
    await change.audit({
      action: 'custody.add-slot',
      target: slotId,
      detail: { kind: slot.kind, label, shares: count, threshold, replaces: replaced },
    });
    return replaced;
  });
  return { slot: describeSlot(slot, () => 0), shares: [...shares], replacedSlotId };
}

/**
 * Removes a slot: what opened it opens nothing any more.
 * @throws LatchkeyError DENIED_SEALED, KEY_INVALID, STATE_NOT_FOUND, STATE_PRECONDITION for the last one
 */
export async function removeSlot(
  server: KeyServer,
  actor: Actor,
  slotId: string,
  proof: RootKeyProof,
): Promise<void> {
  const { organizationId } = server;
  await provenRootKey(server, proof);
  await runChange(server, actor, async (change) => {
    const slots = await rootKeySlots(change.writer, organizationId);
    const slot = slots.find(({ id }) => id === slotId);
    if (slot === undefined) {
      throw new LatchkeyError('STATE_NOT_FOUND', 'there is no such slot', {
        hint: 'see `latchkey server status`',
      });
    }
    if (slots.length === 1) {
      throw new LatchkeyError('STATE_PRECONDITION', 'nothing else opens the root key', {
        hint: 'add another slot first',
      });
    }
    await deleteSlot(change, slot);
  });
}

async function deleteSlot(change: Change, { id, kind, label }: RootKeySlot): Promise<void> {
  await change.writer.deleteFrom('root_key_slot').where('id', '=', id).execute();
  await change.audit({ action: 'custody.remove-slot', target: id, detail: { kind, label } });
}

/** The root key, to who has shown that he can open it. */
async function provenRootKey(server: KeyServer, proof: RootKeyProof): Promise<Uint8Array> {
  const { organizationId, seal, store } = server;
  // There is nothing to hold it against, and whoever cannot open the root key hears the same as who can.
  if (seal.isSealed) throw sealed();
  const rootKey = await openProvenRootKey(
    organizationId,
    await rootKeySlots(store.read, organizationId),
    proof,
  );
  requireSameRootKey(server, rootKey);
  return rootKey;
}

/**
 * Opens the root key with what somebody has.
 * @throws LatchkeyError KEY_INVALID
 */
export async function openProvenRootKey(
  organizationId: string,
  slots: readonly RootKeySlot[],
  proof: RootKeyProof,
): Promise<Uint8Array> {
  const opening =
    'rootKey' in proof
      ? ({ kind: 'file', rootKey: Buffer.from(proof.rootKey, 'hex') } as const)
      : await openingOfShares(proof.shares, slots);
  return openRootKey(organizationId, slots, opening);
}

/** A root key that was rotated meanwhile must not come back in a slot. */
function requireSameRootKey(server: KeyServer, rootKey: Uint8Array): void {
  if (timingSafeEqual(server.seal.unsealed.rootKey.export(), rootKey)) return;
  throw new LatchkeyError('STATE_CONFLICT', 'the root key has just been changed', { hint: 'try again' });
}

function taken(label: string, { kind }: RootKeySlot): LatchkeyError {
  return new LatchkeyError('STATE_CONFLICT', `there is a slot ${JSON.stringify(label)} already`, {
    hint: kind === 'shamir' ? 'choose another label, or replace it' : 'choose another label',
  });
}
