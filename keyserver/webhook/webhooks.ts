/** Tells webhook endpoints of events: a follower of the audit log for each that is enabled. */
import type { Logger } from 'pino';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { LogFollower } from '../audit/log-follower.ts';
import type { Duty } from '../db/duty.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { WEBHOOK_LOOK_INTERVAL_MS } from '../limits.ts';
import { type Endpoint, keepFailure, keepSuccess, passOver, sendWebhook } from './webhook-delivery.ts';
import { isWanted, webhookType } from './webhook-message.ts';

export interface WebhooksOptions {
  readonly server: KeyServer;
  /** True: over http and to private addresses as well. */
  readonly logger: Logger;
}

export class Webhooks {
  readonly #options: WebhooksOptions;
  readonly #duty: Duty;
  readonly #followers = new Map<string, LogFollower>();
  #looking: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: WebhooksOptions) {
    this.#options = options;
    this.#duty = options.server.store.duty('webhooks');
  }

  start(): void {
    this.#timer = setInterval(() => {
      // While the database is away there is nothing to tell either.
      this.#looking = this.#looking.then(() => this.#look()).catch(() => undefined);
    }, WEBHOOK_LOOK_INTERVAL_MS);
    this.#timer.unref();
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#looking;
    await Promise.all([...this.#followers.values()].map((follower) => follower.stop()));
    await this.#duty.release();
  }

  /** Follows for those that are enabled now, and no longer for others. */
  async #look(): Promise<void> {
    const rows = await this.#options.server.store.read
      .selectFrom('webhook_endpoint')
      .select('id')
      .where('state', '=', 'ENABLED')
      .execute();
    const enabled = new Set(rows.map(({ id }) => id));
    for (const [id, follower] of this.#followers) {
      if (enabled.has(id)) continue;
      this.#followers.delete(id);
      await follower.stop();
    }
    for (const id of enabled) {
      if (this.#followers.has(id)) continue;
      const follower = this.#follower(id);
      this.#followers.set(id, follower);
      follower.start();
    }
  }

  #follower(id: string): LogFollower {
    const { server } = this.#options;
    return new LogFollower({
      read: server.store.read,
      random: server.random,
      // A sealed key server has no secrets to sign with.
      isOurs: async () => !server.seal.isSealed && (await this.#duty.isOurs()),
      position: async () => (await this.#find(id))?.position ?? null,
      deliver: (events, _from, stopping) => this.#deliver(id, events, stopping),
      // Each failure is kept with its event, where it happens.
      onFailure: () => Promise.resolve(),
    });
  }

  async #deliver(id: string, events: readonly AuditEvent[], stopping: AbortSignal): Promise<void> {
    const { server, logger } = this.#options;
    const found = await this.#find(id);
    const patterns = JSON.parse(found?.events ?? '[]') as string[];
    let passed = 0;
    for (const event of events) {
      if (isWanted(webhookType(event), patterns)) {
        // It may have been disabled since the event before.
        const endpoint = await this.#find(id);
        if (endpoint === undefined) return;
        try {
          const status = await sendWebhook(server, endpoint, event, stopping);
          await keepSuccess(server, endpoint, event.sequence, status);
        } catch (error) {
          if (stopping.aborted) throw error;
          if (await keepFailure(server, endpoint, event.sequence, error)) {
            logger.warn({ webhook: id }, 'a webhook endpoint failed for long and is disabled');
          }
          throw error;
        }
      } else passed = event.sequence;
    }
    if (passed > 0) await passOver(server, id, passed);
  }

  #find(id: string): Promise<Endpoint | undefined> {
    return this.#options.server.store.read
      .selectFrom('webhook_endpoint')
      .selectAll()
      .where('id', '=', id)
      .where('state', '=', 'ENABLED')
      .executeTakeFirst();
  }
}
