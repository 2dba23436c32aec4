/** The organization: made at the first start, opened at every start. */
import { X509Certificate } from 'node:crypto';
import type { Selectable } from 'kysely';
import type { Organization } from '#src/wire/admin/organization.ts';
import { appendAuditEvent } from '../audit/append-event.ts';
import type { Custody } from '../custody/custody.ts';
import {
  type StoredOrganizationKeys,
  createOrganizationKeys,
  createReleaseKey,
} from '../custody/organization-keys.ts';
import type { OrganizationTable } from '../db/tables/organization.ts';
import type { Store } from '../db/store.ts';
import { WHOLE_ORGANIZATION } from './access.ts';
import { insertToken } from './api-tokens.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';

/** The organization of this database; undefined before the first start. */
export function findOrganization(store: Store): Promise<Selectable<OrganizationTable> | undefined> {
  return store.read.selectFrom('organization').selectAll().executeTakeFirst();
}

export interface NewOrganization {
  readonly name: string;
  readonly contact: string;
  readonly nowMs: number;
  /** The first admin token; already kept where its owner finds it. */
  readonly adminToken: string;
}

/** Makes the organization with its keys and the first admin token. */
export async function createOrganization(
  store: Store,
  custody: Custody,
  organization: NewOrganization,
): Promise<Selectable<OrganizationTable>> {
  const { name, contact, nowMs, adminToken } = organization;
  const id = newId('org', nowMs);
  const keys = await createOrganizationKeys(id, name, custody, nowMs);
  const row: OrganizationTable = {
    id,
    name,
    contact,
    revision: 1,
    created_at_ms: nowMs,
    updated_at_ms: nowMs,
    ...keys,
  };
  await store.write(async (writer) => {
    await writer.insertInto('organization').values(row).execute();
    await insertToken(writer, {
      organizationId: id,
      revision: 1,
      nowMs,
      name: 'first admin',
      permissionSet: 'admin',
      token: adminToken,
      // Whoever sets the server up has to get in until there are others.
      expiresAtMs: null,
      access: WHOLE_ORGANIZATION,
    });
    await appendAuditEvent(writer, id, nowMs, {
      actor: 'system',
      action: 'organization.create',
      target: id,
      outcome: 'done',
    });
  });
  return row;
}

/** An organization with all its keys. */
export type CompleteOrganization = Selectable<OrganizationTable> & StoredOrganizationKeys;

/** Gives an organization of an earlier version the key that it lacks. */
export async function completeOrganization(
  store: Store,
  custody: Custody,
  row: Selectable<OrganizationTable>,
  nowMs: number,
): Promise<CompleteOrganization> {
  const { release_public_jwk: publicJwk, wrapped_release_key: wrappedKey } = row;
  if (publicJwk !== null && wrappedKey !== null) {
    return { ...row, release_public_jwk: publicJwk, wrapped_release_key: wrappedKey };
  }
  const added = await createReleaseKey(row.id, row, custody);
  await store.write(async (writer) => {
    await writer.updateTable('organization').set(added).where('id', '=', row.id).execute();
    await appendAuditEvent(writer, row.id, nowMs, {
      actor: 'system',
      action: 'organization.release-key',
      target: row.id,
      outcome: 'done',
    });
  });
  return { ...row, ...added };
}

/** What clients may know of the organization. */
export async function getOrganization(server: KeyServer): Promise<Organization> {
  const row = await server.store.read
    .selectFrom('organization')
    .selectAll()
    .where('id', '=', server.organizationId)
    .executeTakeFirstOrThrow();
  return {
    id: row.id,
    name: row.name,
    contact: row.contact,
    revision: row.revision,
    importPublicKeyJwk: JSON.parse(row.import_public_jwk) as Record<string, unknown>,
    leaseVerificationJwk: JSON.parse(row.lease_public_jwk) as Record<string, unknown>,
    releaseVerificationJwk: JSON.parse(server.releaseVerificationJwk) as Record<string, unknown>,
    authorityCertificate: authorityPem(row.authority_certificate),
  };
}

/** The authority's certificate as text. */
export function authorityPem(der: Uint8Array): string {
  return new X509Certificate(der).toString();
}
