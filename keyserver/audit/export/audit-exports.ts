/** The copies of the audit log that the operator has asked for: one follower each, and how far each has come. */
import type { Logger } from 'pino';
import type { Clock } from '#src/base/clock.ts';
import { toLatchkeyError } from '#src/base/errors.ts';
import type { AuditExport } from '#src/wire/admin/audit.ts';
import type { Duty } from '../../db/duty.ts';
import type { Store } from '../../db/store.ts';
import { AUDIT_FOLLOW_TIMEOUT_MS } from '../../limits.ts';
import { deliverInTime } from '../delivery-timeout.ts';
import { LogFollower } from '../log-follower.ts';
import { configureExports } from './configure-exports.ts';
import { deliveryMessage } from './delivery-failure.ts';
import type { ExportTarget } from './export-target.ts';
import { openSink } from './open-sink.ts';
import type { AuditSink } from './sink.ts';

export interface AuditExportsOptions {
  readonly store: Store;
  readonly organizationId: string;
  readonly targets: readonly ExportTarget[];
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
}

export class AuditExports {
  readonly #options: AuditExportsOptions;
  readonly #duty: Duty;
  readonly #followers: readonly LogFollower[];

  /** @throws LatchkeyError CONFIG_INVALID for a file of a target that cannot be read */
  static async open(options: AuditExportsOptions): Promise<AuditExports> {
    const sinks: [ExportTarget, AuditSink][] = [];
    for (const target of options.targets) sinks.push([target, await openSink(target)]);
    return new AuditExports(options, sinks);
  }

  private constructor(options: AuditExportsOptions, sinks: readonly (readonly [ExportTarget, AuditSink])[]) {
    this.#options = options;
    this.#duty = options.store.duty('audit exports');
    this.#followers = sinks.map(([{ name }, sink]) => this.#follower(name, sink));
  }

  /** Notes in the log itself which copies there are from now on. */
  async start(): Promise<void> {
    const { store, organizationId, clock, targets } = this.#options;
    const names = targets.map(({ name }) => name);
    await configureExports(store, organizationId, clock.nowMs(), names);
    for (const follower of this.#followers) follower.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#followers.map((follower) => follower.stop()));
    await this.#duty.release();
  }

  /** How far each copy is, whichever process makes them. */
  async list(): Promise<AuditExport[]> {
    const { read } = this.#options.store;
    const rows = await read
      .selectFrom('audit_export')
      .selectAll()
      .where('is_configured', '=', 1)
      .orderBy('name')
      .execute();
    const last = await read
      .selectFrom('audit_event')
      .select((column) => column.fn.max('sequence').as('sequence'))
      .executeTakeFirstOrThrow();
    const items: AuditExport[] = [];
    for (const row of rows) {
      const next = await read
        .selectFrom('audit_event')
        .select('time_ms')
        .where('sequence', '>', row.position)
        .orderBy('sequence')
        .limit(1)
        .executeTakeFirst();
      items.push({
        name: row.name,
        position: row.position,
        behind: Math.max(0, last.sequence - row.position),
        waitingSinceMs: next?.time_ms ?? null,
        deliveredAtMs: row.delivered_at_ms,
        failingSinceMs: row.failing_since_ms,
        failure: row.failure,
      });
    }
    return items;
  }

  #follower(name: string, sink: AuditSink): LogFollower {
    const { store, random } = this.#options;
    return new LogFollower({
      read: store.read,
      random,
      isOurs: () => this.#duty.isOurs(),
      position: async () => {
        const row = await store.read
          .selectFrom('audit_export')
          .select('position')
          .where('name', '=', name)
          .executeTakeFirst();
        return row?.position ?? null;
      },
      deliver: async (events, from, stopping) => {
        await deliverInTime(AUDIT_FOLLOW_TIMEOUT_MS, stopping, (signal) => sink.send(events, signal));
        await this.#advance(name, from, events.at(-1)?.sequence ?? from);
      },
      onFailure: (error) => this.#fail(name, error),
    });
  }

  async #advance(name: string, from: number, to: number): Promise<void> {
    const { store, clock, logger } = this.#options;
    const wasFailing = await store.write(async (writer) => {
      const row = await writer
        .selectFrom('audit_export')
        .select('failing_since_ms')
        .where('name', '=', name)
        .where('position', '=', from)
        .executeTakeFirst();
      await writer
        .updateTable('audit_export')
        .set({ position: to, delivered_at_ms: clock.nowMs(), failing_since_ms: null, failure: null })
        .where('name', '=', name)
        .where('position', '=', from)
        .execute();
      return (row?.failing_since_ms ?? null) !== null;
    }, 'URGENT');
    if (wasFailing) logger.info({ export: name }, 'the audit log is copied again');
  }

  /** Stored and logged when it begins and when it changes, not at every try. */
  async #fail(name: string, error: unknown): Promise<void> {
    const { store, clock, logger } = this.#options;
    const { code } = toLatchkeyError(error);
    const failure = deliveryMessage(error);
    const isNew = await store.write(async (writer) => {
      const row = await writer
        .selectFrom('audit_export')
        .select(['failing_since_ms', 'failure'])
        .where('name', '=', name)
        .executeTakeFirst();
      if (row === undefined || row.failure === failure) return false;
      await writer
        .updateTable('audit_export')
        .set({ failing_since_ms: row.failing_since_ms ?? clock.nowMs(), failure })
        .where('name', '=', name)
        .execute();
      return true;
    }, 'URGENT');
    if (isNew) logger.warn({ export: name, code, cause: failure }, 'the audit log is not copied');
  }
}
