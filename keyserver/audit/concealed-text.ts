/**
 * What tells of people stands in the audit log as HMAC-SHA256 under a key of its own. The log can never be changed; but when
 * that key is destroyed, nobody can find out any more what stood there.
 */
import { createHmac, randomBytes } from 'node:crypto';
import type { OrganizationKeys } from '../custody/organization-keys.ts';
import type { Reader, Writer } from '../db/store.ts';

/** What stands in the log while the key server is sealed and has no key to conceal with. */
export const WITHHELD = 'withheld';

export type ConcealedText = `hmac:${string}` | typeof WITHHELD;

/** The fields of an event's detail that are always concealed: the compiler refuses a plain text there. */
export interface ConcealedFields {
  /** Of a customer, in somebody's books. */
  readonly externalId?: ConcealedText | null;
  /** Of a node: its host name. */
  readonly name?: ConcealedText | null;
  /** Free text of a person. */
  readonly reason?: ConcealedText | null;
}

const FIELD_KEY_BYTES = 32;

/** Draws a key and wraps it. */
export function newFieldKey(keys: OrganizationKeys): Uint8Array {
  return keys.wrapAuditFieldKey(randomBytes(FIELD_KEY_BYTES));
}

/**
 * Conceals a text. Equal texts give equal results, until the key is destroyed; the key is read each time, for another
 * process may have destroyed it.
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED
 */
export async function concealText(
  reader: Reader | Writer,
  organizationId: string,
  keys: OrganizationKeys,
  text: string,
): Promise<ConcealedText> {
  const { wrapped_field_key: wrapped } = await reader
    .selectFrom('audit_key')
    .select('wrapped_field_key')
    .where('organization_id', '=', organizationId)
    .executeTakeFirstOrThrow();
  if (wrapped === null) throw new TypeError('the key for concealed text was not made at the start');
  const key = keys.unwrapAuditFieldKey(wrapped);
  return `hmac:${createHmac('sha256', key).update(text).digest('base64url')}`;
}
