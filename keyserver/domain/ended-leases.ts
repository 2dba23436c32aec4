/**
 * Leases that ended long ago. Nothing is decided by them any more: they renew no more and count for no seat; a request
 * that repeats the nonce of one is refused for its clock; and what their chains could still tell of a copied node, its
 * session does. Each start and renewal stays in the audit log.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type RawBuilder, type SqlBool, sql } from 'kysely';
import { ENDED_LEASES_AT_ONCE, ENDED_LEASES_PAUSE_MS, LEASE_RETENTION_MS } from '../limits.ts';
import { idsFrom } from './ids.ts';
import type { KeyServer } from './key-server.ts';

/**
 * Deletes them, but for the newest of each node and the last to end of each node under each license, which say when it was
 * there and until when it could start. In steps, between which others have their turn.
 * @param stopping ends it after the step under way
 * @returns how many
 */
export async function deleteEndedLeases(
  { store, clock }: Pick<KeyServer, 'store' | 'clock'>,
  stopping: AbortSignal,
): Promise<number> {
  const endedBeforeMs = clock.nowMs() - LEASE_RETENTION_MS;
  // A lease begins before it ends, and ids are in the order of time.
  const bound = idsFrom('lease', Math.max(0, endedBeforeMs));
  const isOver = isOverSince(endedBeforeMs);
  let deleted = 0;
  for (let after = ''; !stopping.aborted;) {
    const page = await store.read
      .selectFrom('lease')
      .select(['id', sql<number>`case when ${isOver} then 1 else 0 end`.as('is_over')])
      .where('id', '>', after)
      .where('id', '<', bound)
      .orderBy('id')
      .limit(ENDED_LEASES_AT_ONCE)
      .execute();
    const last = page.at(-1);
    if (last === undefined) break;
    if (page.some((lease) => lease.is_over === 1)) {
      const from = after;
      const { numDeletedRows } = await store.write((writer) =>
        writer
          .deleteFrom('lease')
          .where('id', '>', from)
          .where('id', '<=', last.id)
          .where(isOver)
          .executeTakeFirstOrThrow(),
      );
      deleted += Number(numDeletedRows);
    }
    if (page.length < ENDED_LEASES_AT_ONCE) break;
    after = last.id;
    // Cut short by the end.
    await sleep(ENDED_LEASES_PAUSE_MS, undefined, { signal: stopping, ref: false }).catch(() => undefined);
  }
  return deleted;
}

/** Of a row of `lease`. */
function isOverSince(timeMs: number): RawBuilder<SqlBool> {
  const end = (alias: string) =>
    sql`coalesce(${sql.ref(`${alias}.usable_until_ms`)}, ${sql.ref(`${alias}.expires_at_ms`)})`;
  return sql<SqlBool>`(
    ${end('lease')} < ${timeMs}
    and exists (select 1 from lease as newer where newer.node_id = lease.node_id and newer.id > lease.id)
    and exists (
      select 1 from lease as other
      where other.node_id = lease.node_id and other.license_id = lease.license_id
      and ${end('other')} >= ${end('lease')} and (${end('other')} > ${end('lease')} or other.id > lease.id)
    )
  )`;
}
