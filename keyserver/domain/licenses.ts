/** Licenses: created with their key, read, and changed by an administrator. */
import { randomBytes } from 'node:crypto';
import { type Selectable, sql } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  LICENSE_KEY_BYTES,
  formatLicenseKey,
  licenseKeyDigest,
  licenseKeyLast4,
} from '#src/licensing/license-key.ts';
import { type LicenseAction, licenseStateAt, nextLicenseState } from '#src/licensing/license-state.ts';
import { SEATED_STATES } from '#src/licensing/node-state.ts';
import { DEFAULT_TERMS, changeTerms } from '#src/licensing/license-terms.ts';
import { toTermOverrides } from '#src/wire/admin/license-terms.ts';
import type { CreatedLicense, License, LicenseInput, LicenseQuery } from '#src/wire/admin/license.ts';
import type { Page } from '#src/wire/admin/page.ts';
import type { Actor } from '../audit/append-event.ts';
import type { LicenseTable } from '../db/tables/license.ts';
import type { Reader } from '../db/store.ts';
import { type Access, isWithin } from './access.ts';
import { runChange } from './change.ts';
import { fromCodeColumn, toCodeColumn } from './code-list.ts';
import { requireCustomer } from './customers.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { END_OF_TERM, termAtCreation } from './license-term.ts';
import { nodesOfLicense } from './license-nodes.ts';
import { licenseFilter } from './license-filter.ts';
import { fromMetadataColumn, replaceTags, tagsOfLicense, toMetadataColumn } from './license-labels.ts';
import { openPage } from './page.ts';
import { requirePolicy } from './policies.ts';
import { requireProduct } from './products.ts';
import { installationOf, seatedNodes, unendedLeases } from './seat-facts.ts';
import { fromTermColumns, toTermColumns } from './term-columns.ts';
import { refuseSecondTrial } from './trials.ts';

/**
 * Creates a license; its key is in this answer and nowhere else.
 * @throws LatchkeyError STATE_NOT_FOUND for the customer, product or policy, STATE_CONFLICT for a second trial,
 *   USAGE_INVALID for an end before the start or in the past
 */
export async function createLicense(
  server: KeyServer,
  actor: Actor,
  input: LicenseInput,
): Promise<CreatedLicense> {
  if (input.expiresAtMs !== undefined && input.expiresAtMs <= (input.startsAtMs ?? 0)) {
    throw new LatchkeyError('USAGE_INVALID', 'the license would end before it starts', {
      hint: 'give an end after the start',
    });
  }
  if (input.expiresAtMs !== undefined && input.expiresAtMs <= server.clock.nowMs()) {
    throw new LatchkeyError('USAGE_INVALID', 'the license would have expired already', {
      hint: 'give an end in the future',
    });
  }
  const key = formatLicenseKey(randomBytes(LICENSE_KEY_BYTES));
  return runChange(server, actor, async (change) => {
    const { writer, organizationId, nowMs } = change;
    const customer = await requireCustomer(writer, organizationId, input.customer);
    const product = await requireProduct(writer, organizationId, input.product);
    const policy =
      input.policy === undefined ? undefined : await requirePolicy(writer, organizationId, input.policy);
    if (policy?.is_trial === 1) {
      await refuseSecondTrial(writer, { customerId: customer.id, productId: product.id });
    }
    const template = policy === undefined ? DEFAULT_TERMS : fromTermColumns(policy);
    const { terms, own } = changeTerms(template, [], template, {
      set: toTermOverrides(input),
      inherited: [],
    });
    const row: LicenseTable = {
      id: newId('lic', nowMs),
      organization_id: organizationId,
      revision: await change.nextRevision(),
      created_at_ms: nowMs,
      updated_at_ms: nowMs,
      key_digest: licenseKeyDigest(key, server.keys.lookupKey),
      key_last4: licenseKeyLast4(key),
      customer_id: customer.id,
      product_id: product.id,
      plan: input.plan ?? null,
      policy_id: policy?.id ?? null,
      own_terms: toCodeColumn(input.expiresAtMs === undefined ? own : [...own, END_OF_TERM]),
      is_trial: policy?.is_trial ?? 0,
      state: 'PENDING',
      state_before_suspension: null,
      epoch: 1,
      reason: null,
      starts_at_ms: input.startsAtMs ?? null,
      ...termAtCreation(terms, input, nowMs),
      contact: input.contact ?? null,
      maintenance_until_ms: input.maintenanceUntilMs ?? null,
      metadata: toMetadataColumn(input.metadata),
      ...toTermColumns(terms),
    };
    await writer.insertInto('license').values(row).execute();
    await replaceTags(writer, row.id, input.tags);
    await change.audit({
      action: 'license.create',
      target: row.id,
      detail: { customerId: customer.id, productCode: product.code, maxNodes: row.max_nodes },
    });
    return { license: await requireLicense(server, writer, row.id), licenseKey: key };
  });
}

export async function listLicenses(
  server: KeyServer,
  query: LicenseQuery,
  access: Access,
): Promise<Page<License>> {
  const { organizationId, clock, store } = server;
  const page = openPage(server.cursorKey, { name: 'licenses', prefix: 'lic' }, query);
  const nowMs = clock.nowMs();
  const filtered = licenseRows(server, store.read)
    .where(await licenseFilter(store.read, organizationId, query, access, nowMs))
    .where(isWithin(access, { product: 'license.product_id', customer: 'license.customer_id' }))
    .limit(page.rows);
  const { tag } = query;
  const ordered =
    tag === undefined
      ? filtered.where(page.isOn('license.id')).orderBy('license.id', page.order)
      : // In the order of the tag's own index, so that a page costs a page, however many have the tag.
        filtered
          .innerJoin('license_tag', 'license_tag.license_id', 'license.id')
          .where('license_tag.tag', '=', tag)
          .where(page.isOn('license_tag.license_id'))
          .orderBy('license_tag.license_id', page.order);
  const rows = await ordered.execute();
  return page.cut(rows.map((row) => toLicense(row, nowMs)));
}

/** @throws LatchkeyError STATE_NOT_FOUND */
export function getLicense(server: KeyServer, licenseId: string): Promise<License> {
  return requireLicense(server, server.store.read, licenseId);
}

/**
 * Suspends, reinstates or revokes a license. After this resolves no key is released for the old epoch; a
 * repeated action changes nothing.
 * @throws LatchkeyError STATE_NOT_FOUND, STATE_PRECONDITION
 */
export async function changeLicense(
  server: KeyServer,
  actor: Actor,
  licenseId: string,
  action: Exclude<LicenseAction, 'activate'>,
  reason: string | undefined,
): Promise<License> {
  const { license, nodeIds } = await runChange(
    server,
    actor,
    async (change) => {
      const { writer, nowMs } = change;
      const stored = await storedLicense(server, writer, licenseId);
      const state = nextLicenseState(licenseId, stored.state, action, stored.state_before_suspension);
      if (state === stored.state) {
        return { license: await requireLicense(server, writer, licenseId), nodeIds: [] };
      }
      await writer
        .updateTable('license')
        .set({
          state,
          state_before_suspension: state === 'SUSPENDED' ? stored.state : null,
          epoch: stored.epoch + 1,
          revision: await change.nextRevision(),
          reason: reason ?? null,
          updated_at_ms: nowMs,
        })
        .where('id', '=', licenseId)
        .execute();
      await change.audit({
        action: `license.${action}`,
        target: licenseId,
        detail: { epoch: stored.epoch + 1, reason: await change.conceal(reason ?? null) },
      });
      return {
        license: await requireLicense(server, writer, licenseId),
        nodeIds: await nodesOfLicense(writer, licenseId),
      };
    },
    action === 'reinstate' ? 'ORDINARY' : 'URGENT',
  );
  server.changes.publish(nodeIds);
  return license;
}

async function storedLicense(
  server: KeyServer,
  reader: Reader,
  licenseId: string,
): Promise<Pick<Selectable<LicenseTable>, 'state' | 'state_before_suspension' | 'epoch'>> {
  const row = await reader
    .selectFrom('license')
    .select(['state', 'state_before_suspension', 'epoch'])
    .where('organization_id', '=', server.organizationId)
    .where('id', '=', licenseId)
    .executeTakeFirst();
  if (row === undefined) throw licenseUnknown(licenseId);
  return row;
}

/** @throws LatchkeyError STATE_NOT_FOUND */
export async function requireLicense(server: KeyServer, reader: Reader, licenseId: string): Promise<License> {
  const row = await licenseRows(server, reader).where('license.id', '=', licenseId).executeTakeFirst();
  if (row === undefined) throw licenseUnknown(licenseId);
  return toLicense(row, server.clock.nowMs());
}

export function licenseUnknown(licenseId: string): LatchkeyError {
  return new LatchkeyError('STATE_NOT_FOUND', `there is no license ${JSON.stringify(licenseId)}`, {
    hint: 'see `latchkey license list`',
  });
}

function licenseRows(server: KeyServer, reader: Reader) {
  const licenseId = sql.ref<string>('license.id');
  return reader
    .selectFrom('license')
    .innerJoin('customer', 'customer.id', 'license.customer_id')
    .innerJoin('product', 'product.id', 'license.product_id')
    .selectAll('license')
    .leftJoin('policy', 'policy.id', 'license.policy_id')
    .select(['customer.name as customer_name', 'product.code as product_code', 'policy.code as policy_code'])
    .select([
      tagsOfLicense(reader),
      seatedNodes(reader)
        .select((count) => count.fn.countAll<number>().as('used'))
        .where('license_node.license_id', '=', licenseId)
        .as('used_nodes'),
      seatedNodes(reader)
        .select(sql<number>`count(distinct ${installationOf})`.as('used'))
        .where('license_node.license_id', '=', licenseId)
        .as('used_installations'),
      // Each node is looked up once, however many leases it has.
      reader
        .selectFrom('node')
        .select((count) => count.fn.countAll<number>().as('used'))
        .where('node.state', 'in', SEATED_STATES)
        .where(
          'node.id',
          'in',
          unendedLeases(reader, server.clock.nowMs())
            .select('lease.node_id')
            .where('lease.license_id', '=', licenseId)
            .where('lease.epoch', '=', sql.ref<number>('license.epoch')),
        )
        .as('used_concurrent'),
    ])
    .where('license.organization_id', '=', server.organizationId);
}

type LicenseRow = Selectable<LicenseTable> & {
  readonly customer_name: string;
  readonly product_code: string;
  readonly policy_code: string | null;
  readonly tags: string | null;
  readonly used_nodes: number | null;
  readonly used_installations: number | null;
  readonly used_concurrent: number | null;
};

function toLicense(row: LicenseRow, nowMs: number): License {
  const terms = fromTermColumns(row);
  const { starts_at_ms: startsAtMs, expires_at_ms: expiresAtMs, expiry_grace_ms: expiryGraceMs } = row;
  return {
    id: row.id,
    revision: row.revision,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    customerId: row.customer_id,
    customerName: row.customer_name,
    productCode: row.product_code,
    plan: row.plan,
    policyCode: row.policy_code,
    ownTerms: fromCodeColumn(row.own_terms),
    isTrial: row.is_trial === 1,
    state: licenseStateAt({ state: row.state, startsAtMs, expiresAtMs, expiryGraceMs }, nowMs),
    epoch: row.epoch,
    reason: row.reason,
    keyLast4: row.key_last4,
    startsAtMs,
    expiresAtMs,
    ...terms,
    entitlements: fromCodeColumn(row.entitlements),
    usedNodes: row.used_nodes ?? 0,
    usedInstallations: row.used_installations ?? 0,
    usedConcurrent: row.used_concurrent ?? 0,
    contact: row.contact,
    maintenanceUntilMs: row.maintenance_until_ms,
    tags: fromCodeColumn(row.tags).sort(),
    metadata: fromMetadataColumn(row.metadata),
  };
}
