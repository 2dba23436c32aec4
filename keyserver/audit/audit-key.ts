/** The key that signs checkpoints of the audit log: an own one, for whoever can sign leases should not sign the log. */
import { type KeyObject, createPrivateKey, generateKeyPairSync } from 'node:crypto';
import type { OrganizationKeys } from '../custody/organization-keys.ts';
import type { Store, Writer } from '../db/store.ts';
import { appendAuditEvent } from './append-event.ts';
import { newFieldKey } from './concealed-text.ts';

/**
 * Opens the organization's audit key, and makes it, and the one for concealed text, at the first start that knows of them.
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED
 */
export async function openAuditKey(
  store: Store,
  organizationId: string,
  keys: OrganizationKeys,
  nowMs: number,
): Promise<KeyObject> {
  const { privateKey } = generateKeyPairSync('ed25519');
  const fresh = keys.wrapAuditKey(privateKey.export({ format: 'der', type: 'pkcs8' }));
  const fieldKey = newFieldKey(keys);
  const wrapped = await store.write(async (writer) => {
    const row = await writer
      .selectFrom('audit_key')
      .select(['wrapped_key', 'wrapped_field_key'])
      .where('organization_id', '=', organizationId)
      .executeTakeFirst();
    if (row !== undefined) {
      if (row.wrapped_field_key === null) await replaceFieldKey(writer, organizationId, fieldKey);
      return row.wrapped_key;
    }
    await writer
      .insertInto('audit_key')
      .values({
        organization_id: organizationId,
        created_at_ms: nowMs,
        wrapped_key: fresh,
        wrapped_field_key: fieldKey,
      })
      .execute();
    await appendAuditEvent(writer, organizationId, nowMs, {
      actor: 'system',
      action: 'organization.audit-key',
      target: organizationId,
      outcome: 'done',
    });
    return fresh;
  }, 'URGENT');
  return createPrivateKey({ key: Buffer.from(keys.unwrapAuditKey(wrapped)), format: 'der', type: 'pkcs8' });
}

/** Puts a key for concealed text in the place of the one that is there, which is gone then. */
export async function replaceFieldKey(
  writer: Writer,
  organizationId: string,
  wrapped: Uint8Array,
): Promise<void> {
  await writer
    .updateTable('audit_key')
    .set({ wrapped_field_key: wrapped })
    .where('organization_id', '=', organizationId)
    .execute();
}
