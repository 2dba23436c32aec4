/** Changes what a license says, and prolongs it. Each change voids the leases of before, but for one of tags and metadata. */
import type { Selectable } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_LICENSE_TIME_MS } from '#src/base/limits.ts';
import {
  DEFAULT_TERMS,
  type LicenseTerms,
  TERM_NAMES,
  type TermName,
  changeTerms,
} from '#src/licensing/license-terms.ts';
import type { AuditAction } from '#src/licensing/audit-actions.ts';
import { changeMetadata } from '#src/licensing/license-labels.ts';
import { toTermChange } from '#src/wire/admin/license-terms.ts';
import { type License, type LicenseUpdate, NEVER } from '#src/wire/admin/license.ts';
import type { Actor } from '../audit/append-event.ts';
import type { LicenseTable } from '../db/tables/license.ts';
import type { Writer } from '../db/store.ts';
import { runChange } from './change.ts';
import { fromCodeColumn, toCodeColumn } from './code-list.ts';
import type { KeyServer } from './key-server.ts';
import {
  fromMetadataColumn,
  normalTags,
  replaceTags,
  tagsOfLicense,
  toMetadataColumn,
} from './license-labels.ts';
import { nodesOfLicense } from './license-nodes.ts';
import { END_OF_TERM, termStartNow } from './license-term.ts';
import { licenseUnknown, requireLicense } from './licenses.ts';
import { type PolicyRow, loadPolicy, requirePolicy } from './policies.ts';
import { fromTermColumns, toTermColumns } from './term-columns.ts';
import { refuseSecondTrial } from './trials.ts';

type LicenseRow = Selectable<LicenseTable> & { readonly tags: string | null };

/** What a change may write. */
type Changed = Partial<Omit<LicenseRow, 'id' | 'state' | 'epoch' | 'revision' | 'updated_at_ms'>>;

/** Notes of the vendor's: no lease depends on them, so none is void when they change. */
const LABELS: readonly (keyof Changed)[] = ['tags', 'metadata'];

/**
 * Changes a license. What is left out stays; null gives a term back to the policy. A change to what is there already
 * changes nothing.
 * @throws LatchkeyError STATE_NOT_FOUND for the license or the policy, STATE_PRECONDITION when it is revoked, USAGE_INVALID
 *   for an end before the start, STATE_CONFLICT for a second trial
 */
export function updateLicense(
  server: KeyServer,
  actor: Actor,
  licenseId: string,
  update: LicenseUpdate,
): Promise<License> {
  return changeTo(server, actor, licenseId, 'license.update', async (writer, row) => {
    const policy = await policyAfter(writer, row, update.policy);
    if (policy?.is_trial === 1 && policy.id !== row.policy_id) {
      await refuseSecondTrial(writer, { customerId: row.customer_id, productId: row.product_id }, row.id);
    }
    const ownBefore = fromCodeColumn(row.own_terms);
    const { terms, own } = changeTerms(
      fromTermColumns(row),
      TERM_NAMES.filter((name) => ownBefore.includes(name)),
      policy === null ? DEFAULT_TERMS : fromTermColumns(policy),
      toTermChange(update),
    );
    const startsAtMs = given(update.startsAtMs, row.starts_at_ms);
    return {
      policy_id: policy?.id ?? null,
      is_trial: policy?.is_trial === 1 ? 1 : row.is_trial,
      plan: given(update.plan, row.plan),
      contact: given(update.contact, row.contact),
      maintenance_until_ms: given(update.maintenanceUntilMs, row.maintenance_until_ms),
      starts_at_ms: startsAtMs,
      tags: update.tags === undefined ? row.tags : toCodeColumn(update.tags ?? []),
      metadata:
        update.metadata === undefined
          ? row.metadata
          : toMetadataColumn(changeMetadata(fromMetadataColumn(row.metadata), update.metadata)),
      ...toTermColumns(terms),
      ...endOf(row, update.expiresAtMs, { terms, own, startsAtMs }),
    };
  });
}

/**
 * Prolongs a license by its duration, or by another: from its end, or from now when that is past.
 * @throws LatchkeyError STATE_NOT_FOUND, STATE_PRECONDITION when it is revoked, has no end, or nothing says how long;
 *   USAGE_INVALID for an end that is too far away
 */
export function renewLicense(
  server: KeyServer,
  actor: Actor,
  licenseId: string,
  durationMs: number | undefined,
): Promise<License> {
  return changeTo(server, actor, licenseId, 'license.renew', (_writer, row) => {
    const byMs = durationMs ?? row.duration_ms;
    if (row.expires_at_ms === null || byMs === null) {
      const lacks =
        row.expires_at_ms === null ? 'has no end to prolong' : 'has no duration to be prolonged by';
      throw new LatchkeyError('STATE_PRECONDITION', `license ${licenseId} ${lacks}`, {
        hint: row.expires_at_ms === null ? 'give it one with --expires' : 'say how long with --by',
      });
    }
    const own = [...fromCodeColumn(row.own_terms), END_OF_TERM];
    const endMs = Math.max(server.clock.nowMs(), row.expires_at_ms) + byMs;
    if (endMs > MAX_LICENSE_TIME_MS) {
      throw new LatchkeyError('USAGE_INVALID', `license ${licenseId} would end after the year 9999`, {
        hint: 'prolong it by less, or take its end away with `latchkey license update --expires never`',
      });
    }
    return Promise.resolve({ expires_at_ms: endMs, own_terms: toCodeColumn(own) });
  });
}

/** Writes what is new, with its epoch, revision and audit event, and tells the nodes. */
async function changeTo(
  server: KeyServer,
  actor: Actor,
  licenseId: string,
  action: AuditAction,
  plan: (writer: Writer, row: LicenseRow) => Promise<Changed>,
): Promise<License> {
  // Beside the license, because what the transaction gives is the answer that a repeat gets.
  let nodeIds: readonly string[] = [];
  const license = await runChange(server, actor, async (change) => {
    const { writer, organizationId, nowMs } = change;
    const stored = await writer
      .selectFrom('license')
      .selectAll()
      .select(tagsOfLicense(writer))
      .where('organization_id', '=', organizationId)
      .where('id', '=', licenseId)
      .executeTakeFirst();
    if (stored === undefined) throw licenseUnknown(licenseId);
    const row = { ...stored, tags: normalTags(stored.tags) };
    if (row.state === 'REVOKED') {
      throw new LatchkeyError('STATE_PRECONDITION', `license ${licenseId} is revoked; it cannot be changed`, {
        hint: 'a revocation is final: create a new license',
      });
    }
    const planned = await plan(writer, row);
    const names = (Object.keys(planned) as (keyof Changed)[]).filter((name) => planned[name] !== row[name]);
    if (names.length === 0) return requireLicense(server, writer, licenseId);
    const epoch = names.every((name) => LABELS.includes(name)) ? row.epoch : row.epoch + 1;
    const { tags = row.tags, ...columns } = planned;
    if (tags !== row.tags) await replaceTags(writer, licenseId, fromCodeColumn(tags));
    await writer
      .updateTable('license')
      .set({ ...columns, epoch, revision: await change.nextRevision(), updated_at_ms: nowMs })
      .where('id', '=', licenseId)
      .execute();
    await change.audit({ action, target: licenseId, detail: { epoch, changed: names } });
    nodeIds = await nodesOfLicense(writer, licenseId);
    return requireLicense(server, writer, licenseId);
  });
  server.changes.publish(nodeIds);
  return license;
}

/** Null = none. */
async function policyAfter(
  writer: Writer,
  row: Selectable<LicenseTable>,
  code: string | null | undefined,
): Promise<PolicyRow | null> {
  if (code === null) return null;
  if (code !== undefined) return requirePolicy(writer, row.organization_id, code);
  if (row.policy_id === null) return null;
  return loadPolicy(writer, row.policy_id);
}

interface NewTerm {
  readonly terms: LicenseTerms;
  readonly own: readonly TermName[];
  readonly startsAtMs: number | null;
}

/** The end that was set, or the one that the duration gives. */
function endOf(
  row: Selectable<LicenseTable>,
  wanted: LicenseUpdate['expiresAtMs'],
  { terms, own, startsAtMs }: NewTerm,
): Pick<LicenseTable, 'own_terms' | 'term_started_at_ms' | 'expires_at_ms'> {
  const isOwnEnd =
    wanted === undefined ? fromCodeColumn(row.own_terms).includes(END_OF_TERM) : wanted !== null;
  const startedAtMs = termStartNow(row, terms.expirationBasis, startsAtMs);
  const derived = startedAtMs === null || terms.durationMs === null ? null : startedAtMs + terms.durationMs;
  const set = wanted === NEVER ? null : (wanted ?? row.expires_at_ms);
  const expiresAtMs = isOwnEnd ? set : derived;
  if (expiresAtMs !== null && startsAtMs !== null && expiresAtMs <= startsAtMs) {
    throw new LatchkeyError('USAGE_INVALID', 'the license would end before it starts', {
      hint: 'give an end after the start',
    });
  }
  return {
    own_terms: toCodeColumn(isOwnEnd ? [...own, END_OF_TERM] : own),
    term_started_at_ms: startedAtMs,
    expires_at_ms: expiresAtMs,
  };
}

function given<Value>(wanted: Value | undefined, before: Value): Value {
  return wanted === undefined ? before : wanted;
}
