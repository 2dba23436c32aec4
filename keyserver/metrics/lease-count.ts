/**
 * How many starts are licensed now. Counted from the leases themselves, license by license, so that neither old leases nor
 * one more index cost anything; and once a minute at most, whoever reads the metrics how often.
 */
import { sql } from 'kysely';
import type { Clock } from '#src/base/clock.ts';
import type { Reader } from '../db/store.ts';
import { LEASE_COUNT_AGE_MS, LICENSES_COUNTED_AT_ONCE } from '../limits.ts';

export class LeaseCount {
  readonly #reader: Reader;
  readonly #clock: Clock;
  #counted: { readonly atMs: number; readonly leases: Promise<number> } | null = null;

  constructor(reader: Reader, clock: Clock) {
    this.#reader = reader;
    this.#clock = clock;
  }

  /** Leases that count: not ended, of their license's present epoch, one for each image of a node. */
  async current(): Promise<number> {
    const atMs = this.#clock.monotonicMs();
    if (this.#counted === null || atMs - this.#counted.atMs >= LEASE_COUNT_AGE_MS) {
      const counted = { atMs, leases: this.#count() };
      this.#counted = counted;
      counted.leases.catch(() => {
        if (this.#counted === counted) this.#counted = null;
      });
    }
    return this.#counted.leases;
  }

  /** In steps, between which others have their turn. */
  async #count(): Promise<number> {
    const nowMs = this.#clock.nowMs();
    let total = 0;
    let after = '';
    for (;;) {
      const { rows } = await sql<{ license_id: string | null; leases: number }>`
        select max(page.id) as license_id, count(distinct lease.node_id || lease.image_digest) as leases
        from (select id, epoch from license where id > ${after} order by id limit ${sql.lit(LICENSES_COUNTED_AT_ONCE)}) as page
        left join lease on lease.license_id = page.id and lease.expires_at_ms > ${nowMs} and lease.epoch = page.epoch
      `.execute(this.#reader);
      const [page] = rows;
      if (page === undefined || page.license_id === null) return total;
      total += page.leases;
      after = page.license_id;
    }
  }
}
