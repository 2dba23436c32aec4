/** A duty as a lock of a PostgreSQL session: it is free again when the process ends, however it ends. */
import { createHash } from 'node:crypto';
import type { Client } from 'pg';
import { DATABASE_ANSWER_TIMEOUT_MS, DATABASE_CONNECT_TIMEOUT_MS } from '../limits.ts';
import type { Duty } from './duty.ts';
import type { PostgresHosts } from './postgres-hosts.ts';

export class PostgresDuty implements Duty {
  readonly #hosts: PostgresHosts;
  readonly #lock: string;
  /** One at a time, so that no second session takes what the first one has. */
  #asking: Promise<boolean> | null = null;
  #client: Client | null = null;
  #isTaken = false;

  /** @param name the same for all processes */
  constructor(hosts: PostgresHosts, name: string) {
    this.#hosts = hosts;
    const digest = createHash('sha256').update(`latchkey duty ${name}`).digest();
    this.#lock = digest.readBigInt64BE().toString();
  }

  isOurs(): Promise<boolean> {
    if (this.#isTaken) return Promise.resolve(true);
    this.#asking ??= this.#ask()
      .catch(() => false)
      .finally(() => {
        this.#asking = null;
      });
    return this.#asking;
  }

  async release(): Promise<void> {
    await this.#asking;
    await this.#client?.end().catch(() => undefined);
    this.#forget();
  }

  async #ask(): Promise<boolean> {
    const client = this.#client ?? (await this.#connect());
    const { rows } = await client.query<{ taken: boolean }>('select pg_try_advisory_lock($1) as taken', [
      this.#lock,
    ]);
    // The session may have ended in between.
    this.#isTaken = this.#client === client && rows[0]?.taken === true;
    return this.#isTaken;
  }

  async #connect(): Promise<Client> {
    const client = await this.#hosts.connectAlone(
      {
        application_name: 'latchkey duty',
        connectionTimeoutMillis: DATABASE_CONNECT_TIMEOUT_MS,
        query_timeout: DATABASE_ANSWER_TIMEOUT_MS,
        keepAlive: true,
      },
      (connecting) => {
        const lose = () => {
          if (this.#client === connecting) this.#forget();
        };
        connecting.on('error', lose);
        connecting.once('end', lose);
      },
    );
    this.#client = client;
    return client;
  }

  #forget(): void {
    this.#client = null;
    this.#isTaken = false;
  }
}
