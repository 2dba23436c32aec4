/** When a node was last heard: by the rows that its calls leave anyway, so that no call has to write for it. */
import { sql } from 'kysely';

/** Of a row of `node`: when its newest lease was given. Ids are in the order of time. */
export const lastLeaseAtMs = sql<number | null>`(
  select lease.issued_at_ms from lease where lease.node_id = node.id order by lease.id desc limit 1
)`;

/** Of a row of `node`: its newest report about a license that it has. */
export const lastReportAtMs = sql<number | null>`(
  select max(plaintext_report.reported_at_ms) from license_node
  join plaintext_report on plaintext_report.license_id = license_node.license_id
    and plaintext_report.node_id = license_node.node_id
  where license_node.node_id = node.id
)`;

/** The last of some moments; null when none has been yet. */
export function lastOf(...timesMs: readonly (number | null)[]): number | null {
  return timesMs.reduce((last, timeMs) => (timeMs === null ? last : Math.max(timeMs, last ?? 0)), null);
}
