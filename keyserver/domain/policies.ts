/** Policies: terms that licenses share. Changing one changes its licenses, in the same transaction. */
import { type Selectable, sql } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import { DEFAULT_TERMS, TERM_NAMES, changeTerms, mergeTerms } from '#src/licensing/license-terms.ts';
import { toTermChange, toTermOverrides } from '#src/wire/admin/license-terms.ts';
import type { Page, PageQuery } from '#src/wire/admin/page.ts';
import type { Policy, PolicyInput, PolicyUpdate } from '#src/wire/admin/policy.ts';
import type { Actor } from '../audit/append-event.ts';
import type { PolicyTable } from '../db/tables/policy.ts';
import type { Reader } from '../db/store.ts';
import { runChange } from './change.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { nodesOfPolicy } from './license-nodes.ts';
import { openPage } from './page.ts';
import { changeLicensesOfPolicy } from './policy-licenses.ts';
import { fromTermColumns, toTermColumns } from './term-columns.ts';

/** @throws LatchkeyError STATE_CONFLICT when the code is taken */
export function createPolicy(server: KeyServer, actor: Actor, input: PolicyInput): Promise<Policy> {
  return runChange(server, actor, async (change) => {
    const { writer, organizationId, nowMs } = change;
    const taken = await policiesOf(writer, organizationId).where('code', '=', input.code).executeTakeFirst();
    if (taken !== undefined) {
      throw new LatchkeyError('STATE_CONFLICT', `there is already a policy ${input.code}`, {
        hint: 'choose another code, or change that one with `latchkey policy update`',
      });
    }
    const row: PolicyTable = {
      id: newId('pol', nowMs),
      organization_id: organizationId,
      revision: await change.nextRevision(),
      created_at_ms: nowMs,
      updated_at_ms: nowMs,
      code: input.code,
      name: input.name ?? input.code,
      is_trial: input.isTrial ? 1 : 0,
      ...toTermColumns(mergeTerms(DEFAULT_TERMS, toTermOverrides(input))),
    };
    await writer.insertInto('policy').values(row).execute();
    await change.audit({ action: 'policy.create', target: row.id, detail: { code: row.code } });
    return toPolicy({ ...row, licenses: 0 });
  });
}

export async function listPolicies(server: KeyServer, query: PageQuery): Promise<Page<Policy>> {
  const page = openPage(server.cursorKey, { name: 'policies', prefix: 'pol' }, query);
  const rows = await policiesOf(server.store.read, server.organizationId)
    .where(page.isOn('policy.id'))
    .orderBy('policy.id', page.order)
    .limit(page.rows)
    .execute();
  return page.cut(rows.map(toPolicy));
}

/** @throws LatchkeyError STATE_NOT_FOUND */
export async function getPolicy(server: KeyServer, code: string): Promise<Policy> {
  return toPolicy(await requirePolicy(server.store.read, server.organizationId, code));
}

/**
 * Changes a policy, and with it every license under it that is not revoked: each gets a new epoch, so leases of before
 * are void. A change to what is there already changes nothing.
 * @throws LatchkeyError STATE_NOT_FOUND
 */
export async function updatePolicy(
  server: KeyServer,
  actor: Actor,
  code: string,
  update: PolicyUpdate,
): Promise<Policy> {
  const { policy, nodeIds } = await runChange(server, actor, async (change) => {
    const { writer, organizationId, nowMs } = change;
    const row = await requirePolicy(writer, organizationId, code);
    const before = fromTermColumns(row);
    const { terms } = changeTerms(before, TERM_NAMES, DEFAULT_TERMS, toTermChange(update));
    const columns = toTermColumns(terms);
    const changed = { name: update.name ?? row.name, ...columns };
    const names = Object.keys(changed) as (keyof typeof changed)[];
    if (names.every((name) => changed[name] === row[name])) return { policy: toPolicy(row), nodeIds: [] };
    const revision = await change.nextRevision();
    await writer
      .updateTable('policy')
      .set({ ...changed, revision, updated_at_ms: nowMs })
      .where('id', '=', row.id)
      .execute();
    const isRenamedOnly = names.every((name) => name === 'name' || changed[name] === row[name]);
    const licenses = isRenamedOnly
      ? 0
      : await changeLicensesOfPolicy(writer, { policyId: row.id, columns, revision, nowMs });
    await change.audit({
      action: 'policy.update',
      target: row.id,
      detail: { code, changed: names.filter((name) => changed[name] !== row[name]), licenses },
    });
    return {
      policy: toPolicy({ ...row, ...changed, revision, updated_at_ms: nowMs }),
      nodeIds: isRenamedOnly ? [] : await nodesOfPolicy(writer, row.id),
    };
  });
  server.changes.publish(nodeIds);
  return policy;
}

/** @throws LatchkeyError STATE_NOT_FOUND */
export async function requirePolicy(
  reader: Reader,
  organizationId: string,
  code: string,
): Promise<PolicyRow> {
  const row = await policiesOf(reader, organizationId).where('policy.code', '=', code).executeTakeFirst();
  if (row !== undefined) return row;
  throw new LatchkeyError('STATE_NOT_FOUND', `there is no policy ${JSON.stringify(code)}`, {
    hint: 'see `latchkey policy list`',
  });
}

/** The policy of a license. */
export function loadPolicy(reader: Reader, policyId: string): Promise<PolicyRow> {
  return policyRows(reader).where('policy.id', '=', policyId).executeTakeFirstOrThrow();
}

export type PolicyRow = Selectable<PolicyTable> & { readonly licenses: number | null };

function policiesOf(reader: Reader, organizationId: string) {
  return policyRows(reader).where('policy.organization_id', '=', organizationId);
}

function policyRows(reader: Reader) {
  return reader
    .selectFrom('policy')
    .selectAll('policy')
    .select(
      reader
        .selectFrom('license')
        .select((count) => count.fn.countAll<number>().as('count'))
        .where('license.policy_id', '=', sql.ref<string>('policy.id'))
        .as('licenses'),
    );
}

function toPolicy(row: PolicyRow): Policy {
  const terms = fromTermColumns(row);
  return {
    id: row.id,
    revision: row.revision,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    code: row.code,
    name: row.name,
    isTrial: row.is_trial === 1,
    ...terms,
    entitlements: [...terms.entitlements],
    licenses: row.licenses ?? 0,
  };
}
