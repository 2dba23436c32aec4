/**
 * Tells the other processes on the same database whose nodes have news (LISTEN and NOTIFY). Nothing depends on a
 * message alone: who misses some while its connection is away is told that anything may have changed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import type { PostgresHosts } from './postgres-hosts.ts';
import { DATABASE_CONNECT_TIMEOUT_MS, DATABASE_RECONNECT_MS, MAX_ANNOUNCED_NODES } from '../limits.ts';

const CHANNEL = 'latchkey_changes';
/** Not a node id: everybody should look. */
const EVERYBODY = '*';

/** Gets the ids of nodes, or null when any node may have news. */
export type AnnouncementListener = (nodeIds: readonly string[] | null) => void;

export class PostgresAnnouncements {
  readonly #hosts: PostgresHosts;
  readonly #stopping = new AbortController();
  #client: Client | null = null;
  #listening: Promise<void> = Promise.resolve();

  constructor(hosts: PostgresHosts) {
    this.#hosts = hosts;
  }

  /** Sends to all processes, this one too. One that is lost is made good by the next heartbeat of a stream. */
  announce(nodeIds: readonly string[]): void {
    if (nodeIds.length === 0) return;
    const payload = nodeIds.length > MAX_ANNOUNCED_NODES ? EVERYBODY : nodeIds.join(' ');
    this.#send(payload).catch(() => undefined);
  }

  listen(listener: AnnouncementListener): void {
    this.#listening = this.#listenForever(listener);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#client?.end().catch(() => undefined);
    await this.#listening;
  }

  async #listenForever(listener: AnnouncementListener): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      await this.#listenOnce(listener).catch(() => undefined);
      await sleep(DATABASE_RECONNECT_MS, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
  }

  async #send(payload: string): Promise<void> {
    const client = await this.#hosts.connect();
    try {
      await client.query('select pg_notify($1, $2)', [CHANNEL, payload]);
      client.release();
    } catch (error) {
      client.release(true);
      throw error;
    }
  }

  /** Ends with the connection. */
  async #listenOnce(listener: AnnouncementListener): Promise<void> {
    let ended: Promise<void> = Promise.resolve();
    const client = await this.#hosts.connectAlone(
      {
        application_name: 'latchkey changes',
        connectionTimeoutMillis: DATABASE_CONNECT_TIMEOUT_MS,
        keepAlive: true,
      },
      (connecting) => {
        this.#client = connecting;
        ended = new Promise<void>((resolve) => {
          connecting.once('end', resolve);
          connecting.on('error', () => {
            resolve();
          });
        });
        connecting.on('notification', ({ payload = EVERYBODY }) => {
          listener(payload === EVERYBODY ? null : payload.split(' '));
        });
      },
    );
    try {
      await client.query(`listen ${CHANNEL}`);
      // Whatever was announced in between is not told again.
      listener(null);
      if (!this.#stopping.signal.aborted) await ended;
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}
