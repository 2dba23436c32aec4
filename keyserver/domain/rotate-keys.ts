/**
 * New organization and root keys. What they protect stays and is wrapped anew, in one transaction: a rotation that dies has not
 * been. For a key server that does not run, because one that runs has the old keys in its memory.
 */
import { appendAuditEvent } from '../audit/append-event.ts';
import { type RewrappedKeys, rewrapOrganizationKeys } from '../custody/organization-keys.ts';
import { keyCustody } from '../custody/root-key-file.ts';
import type { RootKeySlot } from '../custody/root-key-slot.ts';
import type { Store, Writer } from '../db/store.ts';
import type { CompleteOrganization } from './organization.ts';

export interface Rotation {
  readonly organization: CompleteOrganization;
  readonly rootKey: Uint8Array;
  readonly nowMs: number;
  /** A new root key, and its slots in place of those of before; null = the root key stays. */
  readonly newRoot: { readonly rootKey: Uint8Array; readonly slots: readonly RootKeySlot[] } | null;
}

/**
 * Draws a new organization key, under the new root key if there is one.
 * @param beforeCommit told how many image keys are wrapped anew; nothing was changed when it throws
 * @returns how many image keys were wrapped anew
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED for a wrapped key that is damaged; then nothing was changed
 */
export async function rotateKeys(
  store: Store,
  rotation: Rotation,
  beforeCommit: (imageKeys: number) => Promise<void> = () => Promise.resolve(),
): Promise<number> {
  const { organization, rootKey, nowMs, newRoot } = rotation;
  const organizationId = organization.id;
  const rewrapped = await rewrapOrganizationKeys(
    organizationId,
    organization,
    keyCustody(rootKey),
    keyCustody(newRoot?.rootKey ?? rootKey),
  );
  return store.write(async (writer) => {
    await writer
      .updateTable('organization')
      .set({ ...rewrapped.columns, updated_at_ms: nowMs })
      .where('id', '=', organizationId)
      .execute();
    await rewrapAuditKeys(writer, organizationId, rewrapped);
    await rewrapWebhookSecrets(writer, organizationId, rewrapped.rewrapWebhookSecret);
    const count = await rewrapImageKeys(writer, organizationId, rewrapped.rewrapImageKey);
    for (const slot of newRoot?.slots ?? []) {
      await writer.updateTable('root_key_slot').set(slot).where('id', '=', slot.id).execute();
    }
    const level = newRoot === null ? 'organization' : 'root';
    await appendAuditEvent(writer, organizationId, nowMs, {
      actor: 'system',
      action: 'custody.rotate',
      target: organizationId,
      outcome: 'done',
      detail: { level, imageKeys: count },
    });
    await beforeCommit(count);
    return count;
  });
}

async function rewrapAuditKeys(
  writer: Writer,
  organizationId: string,
  { rewrapAuditKey, rewrapAuditFieldKey }: RewrappedKeys,
): Promise<void> {
  const row = await writer
    .selectFrom('audit_key')
    .select(['wrapped_key', 'wrapped_field_key'])
    .where('organization_id', '=', organizationId)
    .executeTakeFirst();
  // None before the first start.
  if (row === undefined) return;
  await writer
    .updateTable('audit_key')
    .set({
      wrapped_key: rewrapAuditKey(row.wrapped_key),
      wrapped_field_key: row.wrapped_field_key && rewrapAuditFieldKey(row.wrapped_field_key),
    })
    .where('organization_id', '=', organizationId)
    .execute();
}

async function rewrapWebhookSecrets(
  writer: Writer,
  organizationId: string,
  rewrap: (endpointId: string, wrapped: Uint8Array) => Uint8Array,
): Promise<void> {
  const rows = await writer
    .selectFrom('webhook_endpoint')
    .select(['id', 'wrapped_secret'])
    .where('organization_id', '=', organizationId)
    .where('state', '!=', 'DELETED')
    .execute();
  for (const { id, wrapped_secret: wrapped } of rows) {
    await writer
      .updateTable('webhook_endpoint')
      .set({ wrapped_secret: rewrap(id, wrapped) })
      .where('id', '=', id)
      .execute();
  }
}

/** @returns how many; of those that were destroyed there is nothing left */
async function rewrapImageKeys(
  writer: Writer,
  organizationId: string,
  rewrap: (imageKeyId: string, wrapped: Uint8Array) => Uint8Array,
): Promise<number> {
  const rows = await writer
    .selectFrom('image_key')
    .select(['id', 'wrapped_key'])
    .where('organization_id', '=', organizationId)
    .where('state', '!=', 'DESTROYED')
    .execute();
  for (const { id, wrapped_key: wrapped } of rows) {
    await writer
      .updateTable('image_key')
      .set({ wrapped_key: rewrap(id, wrapped) })
      .where('id', '=', id)
      .where('organization_id', '=', organizationId)
      .execute();
  }
  return rows.length;
}
