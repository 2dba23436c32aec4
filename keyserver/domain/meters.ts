/**
 * Metering: what was used under a license, as its vendor's programs report it. A report is a fact and always counts, also
 * beyond what was sold; what then happens is the vendor's decision, and starts do not depend on it.
 */
import type { Selectable } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_METERS_PER_LICENSE, MAX_METER_TOTAL } from '#src/base/limits.ts';
import type {
  Meter,
  MeterInput,
  ReportedUsage,
  UsageQuery,
  UsageReport,
  UsageReportInput,
} from '#src/wire/admin/meter.ts';
import type { Page } from '#src/wire/admin/page.ts';
import type { Actor } from '../audit/append-event.ts';
import type { MeterTable, UsageReportTable } from '../db/tables/meter.ts';
import type { Reader } from '../db/store.ts';
import { type Change, runChange } from './change.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { getLicense } from './licenses.ts';
import { allOf, isEqual } from './list-filter.ts';
import { openPage } from './page.ts';

/**
 * Makes a meter of a license, or changes what was sold. What was used stays.
 * @throws LatchkeyError STATE_NOT_FOUND, LIMIT_EXCEEDED
 */
export async function setMeter(
  server: KeyServer,
  actor: Actor,
  licenseId: string,
  name: string,
  { max, isOpenToNodes }: MeterInput,
): Promise<Meter> {
  await getLicense(server, licenseId);
  return runChange(server, actor, async (change) => {
    const { writer, organizationId, nowMs } = change;
    const known = await findMeter(writer, licenseId, name);
    const isOpen = isOpenToNodes === undefined ? (known?.is_open_to_nodes ?? 0) : isOpenToNodes ? 1 : 0;
    if (known?.max_used === max && known.is_open_to_nodes === isOpen) return toMeter(known);
    const changed = {
      max_used: max,
      is_open_to_nodes: isOpen,
      revision: await change.nextRevision(),
      updated_at_ms: nowMs,
    } as const;
    await change.audit({
      action: 'meter.set',
      target: licenseId,
      detail: { meter: name, max, isOpenToNodes: isOpen === 1 },
    });
    if (known !== undefined) {
      await writer.updateTable('meter').set(changed).where('id', '=', known.id).execute();
      return toMeter({ ...known, ...changed });
    }
    await refuseMany(writer, licenseId);
    const row: MeterTable = {
      ...changed,
      id: newId('meter', nowMs),
      organization_id: organizationId,
      created_at_ms: nowMs,
      license_id: licenseId,
      name,
      used: 0,
    };
    await writer.insertInto('meter').values(row).execute();
    return toMeter(row);
  });
}

/**
 * Counts what was used. The same report again changes nothing and gets the same answer about itself.
 * @throws LatchkeyError STATE_NOT_FOUND; STATE_CONFLICT when the report id was used for another amount; LIMIT_EXCEEDED
 */
export function reportUsage(
  server: KeyServer,
  actor: Actor,
  licenseId: string,
  name: string,
  input: UsageReportInput,
): Promise<ReportedUsage> {
  return runChange(server, actor, (change) => countUsage(change, licenseId, name, input));
}

/** The same, inside the transaction of the caller. */
export async function countUsage(
  change: Change,
  licenseId: string,
  name: string,
  { reportId, amount }: UsageReportInput,
): Promise<ReportedUsage> {
  const { writer, nowMs, organizationId } = change;
  const meter = await requireMeter(writer, organizationId, licenseId, name);
  const known = await findReport(writer, licenseId, name, reportId);
  if (known !== undefined) {
    if (known.amount !== amount) throw otherAmount(known);
    return { report: toReport(known), meter: toMeter(meter) };
  }
  const used = meter.used + amount;
  if (used > MAX_METER_TOTAL) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `meter ${name} would count further than it can`, {
      hint: 'count in a larger unit, on another meter',
    });
  }
  const changed = { used, revision: await change.nextRevision(), updated_at_ms: nowMs };
  await writer.updateTable('meter').set(changed).where('id', '=', meter.id).execute();
  const row: UsageReportTable = {
    id: newId('usage', nowMs),
    license_id: licenseId,
    meter: name,
    report_id: reportId,
    amount,
    total: used,
    reported_at_ms: nowMs,
  };
  await writer.insertInto('usage_report').values(row).execute();
  await change.audit({
    action: 'meter.report',
    target: licenseId,
    detail: { meter: name, reportId, amount, total: used },
  });
  return { report: toReport(row), meter: toMeter({ ...meter, ...changed }) };
}

/** @throws LatchkeyError STATE_NOT_FOUND */
export async function listMeters(server: KeyServer, licenseId: string): Promise<Page<Meter>> {
  await getLicense(server, licenseId);
  const rows = await server.store.read
    .selectFrom('meter')
    .selectAll()
    .where('license_id', '=', licenseId)
    .orderBy('name')
    .execute();
  return { items: rows.map(toMeter), nextAfter: null };
}

/** @throws LatchkeyError STATE_NOT_FOUND, for a meter too: an empty list would say that nothing was used */
export async function listUsage(
  server: KeyServer,
  licenseId: string,
  query: UsageQuery,
): Promise<Page<UsageReport>> {
  await getLicense(server, licenseId);
  if (query.meter !== undefined) {
    await requireMeter(server.store.read, server.organizationId, licenseId, query.meter);
  }
  const list = { name: `usage of ${licenseId}`, prefix: 'usage' } as const;
  const page = openPage(server.cursorKey, list, query);
  const rows = await server.store.read
    .selectFrom('usage_report')
    .selectAll()
    .where('license_id', '=', licenseId)
    .where(page.isOn('usage_report.id'))
    .where(allOf(isEqual('usage_report.meter', query.meter)))
    .orderBy('id', page.order)
    .limit(page.rows)
    .execute();
  return page.cut(rows.map(toReport));
}

async function refuseMany(reader: Reader, licenseId: string): Promise<void> {
  const { meters } = await reader
    .selectFrom('meter')
    .select((select) => select.fn.countAll<number>().as('meters'))
    .where('license_id', '=', licenseId)
    .executeTakeFirstOrThrow();
  if (meters < MAX_METERS_PER_LICENSE) return;
  throw new LatchkeyError('LIMIT_EXCEEDED', `license ${licenseId} has ${MAX_METERS_PER_LICENSE} meters`, {
    hint: 'a license cannot have more',
  });
}

function findMeter(
  reader: Reader,
  licenseId: string,
  name: string,
): Promise<Selectable<MeterTable> | undefined> {
  return reader
    .selectFrom('meter')
    .selectAll()
    .where('license_id', '=', licenseId)
    .where('name', '=', name)
    .executeTakeFirst();
}

async function requireMeter(
  reader: Reader,
  organizationId: string,
  licenseId: string,
  name: string,
): Promise<Selectable<MeterTable>> {
  const row = await findMeter(reader, licenseId, name);
  if (row?.organization_id === organizationId) return row;
  throw new LatchkeyError('STATE_NOT_FOUND', `license ${licenseId} has no meter ${JSON.stringify(name)}`, {
    hint: 'see `latchkey license meters`; `latchkey license meter` makes one',
  });
}

function findReport(
  reader: Reader,
  licenseId: string,
  meter: string,
  reportId: string,
): Promise<Selectable<UsageReportTable> | undefined> {
  return reader
    .selectFrom('usage_report')
    .selectAll()
    .where('license_id', '=', licenseId)
    .where('meter', '=', meter)
    .where('report_id', '=', reportId)
    .executeTakeFirst();
}

function otherAmount({ report_id: reportId, amount }: Selectable<UsageReportTable>): LatchkeyError {
  return new LatchkeyError('STATE_CONFLICT', `report ${reportId} was counted already, with ${amount}`, {
    hint: 'give each report an id of its own, and repeat a report as it was',
  });
}

function toMeter(row: Selectable<MeterTable>): Meter {
  const { used, max_used: max } = row;
  return {
    id: row.id,
    revision: row.revision,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    licenseId: row.license_id,
    name: row.name,
    used,
    max,
    remaining: max === null ? null : Math.max(0, max - used),
    isExceeded: max !== null && used > max,
    isOpenToNodes: row.is_open_to_nodes === 1,
  };
}

function toReport(row: Selectable<UsageReportTable>): UsageReport {
  return {
    id: row.id,
    licenseId: row.license_id,
    meter: row.meter,
    reportId: row.report_id,
    amount: row.amount,
    total: row.total,
    reportedAtMs: row.reported_at_ms,
  };
}
