/** What nodes say about a license they refuse starts under: that they do, what still runs, and when nothing is left. */
import type { ExpressionBuilder } from 'kysely';
import { LatchkeyError, isDeniedCode, isErrorCode } from '#src/base/errors.ts';
import type { AuditAction } from '#src/licensing/audit-actions.ts';
import { licenseDenial, nodeDenial } from '#src/licensing/decide.ts';
import type { LicenseNode } from '#src/wire/admin/node.ts';
import type { Page, PageQuery } from '#src/wire/admin/page.ts';
import { appendAuditEvent } from '../audit/append-event.ts';
import type { Database } from '../db/schema.ts';
import type { PlaintextReportTable } from '../db/tables/node.ts';
import type { Writer } from '../db/store.ts';
import type { NodeIdentity } from './acquire-lease.ts';
import { loadNode, loadOrganization } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';
import { lastLeaseAtMs, lastOf } from './last-contact.ts';
import { loadLicense } from './license-facts.ts';
import { getLicense } from './licenses.ts';
import { openPage } from './page.ts';

/** The last moment that a Date can hold; also a bound for counts. */
const MAX_NUMBER = 8.64e15;

export interface PlaintextReport {
  readonly licenseId: string;
  /** 0 = the node knows the denial only. */
  readonly epoch: number;
  readonly denialCode: string;
  readonly startsRefusedAtMs: number;
  readonly runningContainers: number;
  readonly plaintextLayers: number;
  /** 0 = not yet. */
  readonly plaintextGoneAtMs: number;
}

/**
 * Keeps the newest report of a node about a license. Saying the same again changes nothing; the audit log gets the
 * acknowledgement and the end of the plaintext, once each. A banned node may report, and should.
 * @throws LatchkeyError INPUT_MALFORMED, DENIED_NODE_UNKNOWN, STATE_NOT_FOUND
 */
export function reportPlaintext(
  server: KeyServer,
  identity: NodeIdentity,
  report: PlaintextReport,
): Promise<void> {
  checkReport(report);
  return server.store.write(async (writer) => {
    const nowMs = server.clock.nowMs();
    const known = await loadNode(writer, server.organizationId, identity);
    if (known === null) {
      const { contact } = await loadOrganization(writer, server.organizationId);
      const denied = nodeDenial(null, contact);
      if (denied !== null) throw denialError(denied);
    }
    const { nodeId } = identity;
    const row: PlaintextReportTable = {
      license_id: report.licenseId,
      node_id: nodeId,
      epoch: await epochOf(writer, nodeId, report),
      denial_code: report.denialCode,
      starts_refused_at_ms: report.startsRefusedAtMs,
      running_containers: report.runningContainers,
      plaintext_layers: report.plaintextLayers,
      plaintext_gone_at_ms: report.plaintextGoneAtMs === 0 ? null : report.plaintextGoneAtMs,
      reported_at_ms: nowMs,
    };
    const before = await writer
      .selectFrom('plaintext_report')
      .selectAll()
      .where('license_id', '=', row.license_id)
      .where('node_id', '=', nodeId)
      .executeTakeFirst();
    if (before !== undefined && saysTheSame(before, row)) return;
    await writer
      .insertInto('plaintext_report')
      .values(row)
      .onConflict((conflict) => conflict.columns(['license_id', 'node_id']).doUpdateSet(row))
      .execute();
    const isNews = before?.epoch !== row.epoch || before.denial_code !== row.denial_code;
    const audit = (action: AuditAction, detail: Record<string, number>): Promise<unknown> =>
      appendAuditEvent(writer, server.organizationId, nowMs, {
        ...{ actor: `node:${nodeId}` as const, action, target: row.license_id, outcome: 'done' as const },
        code: row.denial_code,
        detail: { ...detail, epoch: row.epoch },
      });
    if (isNews) {
      const { startsRefusedAtMs, runningContainers } = report;
      await audit('license.acknowledge', { startsRefusedAtMs, runningContainers });
    }
    if (row.plaintext_gone_at_ms !== null && (isNews || before.plaintext_gone_at_ms === null)) {
      await audit('license.plaintext-gone', { plaintextGoneAtMs: row.plaintext_gone_at_ms });
    }
  });
}

/** The nodes of a license, with what each has said about it last. @throws LatchkeyError STATE_NOT_FOUND */
export async function listLicenseNodes(
  server: KeyServer,
  licenseId: string,
  query: PageQuery,
): Promise<Page<LicenseNode>> {
  const license = await getLicense(server, licenseId);
  const isRefused = await isRefusedNow(server, licenseId);
  const list = { name: `nodes of ${licenseId}`, prefix: 'node' } as const;
  const page = openPage(server.cursorKey, list, query);
  const rows = await server.store.read
    .selectFrom('license_node')
    .innerJoin('node', 'node.id', 'license_node.node_id')
    .leftJoin('plaintext_report', (join) =>
      join
        .onRef('plaintext_report.node_id', '=', 'license_node.node_id')
        .onRef('plaintext_report.license_id', '=', 'license_node.license_id')
        // A report about an earlier change of the license says nothing about this one.
        .on('plaintext_report.epoch', '=', license.epoch),
    )
    .select(['node.id', 'node.name', 'node.state', 'node.acknowledged_revision', 'node.acknowledged_at_ms'])
    .select(lastLeaseAtMs.as('last_lease_at_ms'))
    .select((select) =>
      // Of any epoch: a node that has heard nothing goes on with the lease it has.
      select
        .selectFrom('lease')
        .select((inner) => usableUntil(inner).as('usable_until_ms'))
        .whereRef('lease.node_id', '=', 'node.id')
        .where('lease.license_id', '=', licenseId)
        .orderBy((inner) => usableUntil(inner), 'desc')
        .limit(1)
        .as('last_lease_ends_at_ms'),
    )
    .select([
      'denial_code',
      'starts_refused_at_ms',
      'running_containers',
      'plaintext_layers',
      'plaintext_gone_at_ms',
      'reported_at_ms',
    ])
    .where('license_node.license_id', '=', licenseId)
    .where(page.isOn('license_node.node_id'))
    .orderBy('license_node.node_id', page.order)
    .limit(page.rows)
    .execute();
  return page.cut(
    rows.map((row): LicenseNode => {
      const { last_lease_at_ms: leaseAtMs, reported_at_ms: reportedAtMs, denial_code: denialCode } = row;
      const { acknowledged_revision: revision, acknowledged_at_ms: acknowledgedAtMs } = row;
      const hasAcknowledged = denialCode !== null || (revision ?? 0) >= license.revision;
      const refuses = denialCode !== null || (hasAcknowledged && isRefused);
      return {
        id: row.id,
        name: row.name,
        state: row.state,
        hasAcknowledged,
        acknowledgedRevision: revision,
        acknowledgedAtMs,
        lastContactMs: lastOf(leaseAtMs, reportedAtMs, acknowledgedAtMs),
        canStartUntilMs: refuses ? null : row.last_lease_ends_at_ms,
        report:
          denialCode === null
            ? null
            : {
                denialCode,
                startsRefusedAtMs: row.starts_refused_at_ms ?? 0,
                runningContainers: row.running_containers ?? 0,
                plaintextLayers: row.plaintext_layers ?? 0,
                plaintextGoneAtMs: row.plaintext_gone_at_ms,
                reportedAtMs: reportedAtMs ?? 0,
              },
      };
    }),
  );
}

/** Until when a node may use a lease, with its connectivity grace. */
function usableUntil(builder: ExpressionBuilder<Database, 'lease'>) {
  return builder.fn.coalesce('lease.usable_until_ms', 'lease.expires_at_ms');
}

async function isRefusedNow({ store, clock }: KeyServer, licenseId: string): Promise<boolean> {
  const facts = await loadLicense(store.read, licenseId);
  return facts !== undefined && licenseDenial(facts, clock.nowMs()) !== null;
}

function checkReport(report: PlaintextReport): void {
  const { denialCode, licenseId } = report;
  if (!isErrorCode(denialCode) || !isDeniedCode(denialCode)) {
    throw new LatchkeyError('INPUT_MALFORMED', 'a report needs the code that starts are refused with');
  }
  const numbers = [
    report.epoch,
    report.startsRefusedAtMs,
    report.runningContainers,
    report.plaintextLayers,
    report.plaintextGoneAtMs,
  ];
  if (
    licenseId === '' ||
    !numbers.every((number) => Number.isSafeInteger(number) && number >= 0 && number <= MAX_NUMBER)
  ) {
    throw new LatchkeyError('INPUT_MALFORMED', 'the report is malformed');
  }
}

/** A node that was only denied a lease does not know the epoch; then it is the present one. */
async function epochOf(
  writer: Writer,
  nodeId: string,
  { licenseId, epoch }: PlaintextReport,
): Promise<number> {
  const license = await writer
    .selectFrom('license_node')
    .innerJoin('license', 'license.id', 'license_node.license_id')
    .select('license.epoch')
    .where('license_node.license_id', '=', licenseId)
    .where('license_node.node_id', '=', nodeId)
    .executeTakeFirst();
  if (license === undefined) {
    throw new LatchkeyError('STATE_NOT_FOUND', 'this node was not activated with that license');
  }
  return epoch === 0 ? license.epoch : Math.min(epoch, license.epoch);
}

function saysTheSame(before: PlaintextReportTable, now: PlaintextReportTable): boolean {
  return (Object.keys(now) as (keyof PlaintextReportTable)[]).every(
    (column) => column === 'reported_at_ms' || before[column] === now[column],
  );
}
