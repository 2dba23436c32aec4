/** The organization: made at the first start, opened at every start. */
import { X509Certificate } from 'node:crypto';
import type { Selectable } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Organization } from '#src/wire/admin/organization.ts';
import { appendAuditEvent } from '../audit/append-event.ts';
import type { Custody } from '../custody/custody.ts';
import {
  type StoredOrganizationKeys,
  createOrganizationKeys,
  createReleaseKey,
} from '../custody/organization-keys.ts';
import type { RootKeySlot } from '../custody/root-key-slot.ts';
import type { OrganizationTable } from '../db/tables/organization.ts';
import type { Store } from '../db/store.ts';
import { WHOLE_ORGANIZATION } from './access.ts';
import { insertToken } from './api-tokens.ts';
import type { KeyServer } from './key-server.ts';

/** The organization of this database; undefined before the first start. */
export function findOrganization(store: Store): Promise<Selectable<OrganizationTable> | undefined> {
  return store.read.selectFrom('organization').selectAll().executeTakeFirst();
}

/** The organization of a database that has been started with before. */
export function requireOrganization(store: Store): Promise<Selectable<OrganizationTable>> {
  return store.read.selectFrom('organization').selectAll().executeTakeFirstOrThrow();
}

export interface NewOrganization {
  readonly id: string;
  /** What opens its root key. */
  readonly slots: readonly RootKeySlot[];
  readonly name: string;
  readonly contact: string;
  readonly nowMs: number;
  /** The first admin token. */
  readonly adminToken: string;
  /** Keeps it where its owner finds it; called once the organization is sure to be made, before it is. */
  readonly keepAdminToken: () => Promise<void>;
}

/**
 * Makes the organization with its keys and the first admin token, unless another key server has just done so.
 * @returns the one that is there now, and whether it is this one
 */
export async function createOrganization(
  store: Store,
  custody: Custody,
  organization: NewOrganization,
): Promise<{ row: Selectable<OrganizationTable>; isNew: boolean }> {
  const { id, name, contact, nowMs, adminToken } = organization;
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
  return store.write(async (writer) => {
    const first = await writer.selectFrom('organization').selectAll().executeTakeFirst();
    if (first !== undefined) return { row: first, isNew: false };
    await organization.keepAdminToken();
    await writer.insertInto('organization').values(row).execute();
    await writer
      .insertInto('root_key_slot')
      .values([...organization.slots])
      .execute();
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
    return { row, isNew: true };
  });
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
  if (isComplete(row)) return row;
  const added = await createReleaseKey(row.id, row, custody);
  return store.write(async (writer) => {
    const now = await writer.selectFrom('organization').selectAll().executeTakeFirstOrThrow();
    // Another key server was faster.
    if (isComplete(now)) return now;
    await writer.updateTable('organization').set(added).where('id', '=', row.id).execute();
    await appendAuditEvent(writer, row.id, nowMs, {
      actor: 'system',
      action: 'organization.release-key',
      target: row.id,
      outcome: 'done',
    });
    return { ...now, ...added };
  });
}

function isComplete(row: Selectable<OrganizationTable>): row is CompleteOrganization {
  return row.release_public_jwk !== null && row.wrapped_release_key !== null;
}

/**
 * The organization of a database that was unsealed before.
 * @throws LatchkeyError CONFIG_INVALID when it lacks a key that only the root key can add
 */
export async function requireCompleteOrganization(store: Store): Promise<CompleteOrganization> {
  const row = await requireOrganization(store);
  if (isComplete(row)) return row;
  throw new LatchkeyError('CONFIG_INVALID', 'the database of an earlier version cannot be started sealed', {
    hint: 'start it once with its root key',
  });
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
