/**
 * The servers of one PostgreSQL cluster, of which one takes writes. Whoever connects is led to that one, and after a
 * failover to the one that was promoted.
 */
import { Client, type ClientBase, type ClientConfig, Pool, type PoolClient, type PoolConfig } from 'pg';
import { LatchkeyError } from '#src/base/errors.ts';

interface Host {
  readonly url: string;
  readonly pool: Pool;
}

/** What was seen of a cluster. */
export interface ClusterHistory {
  /** Its newest timeline; a server of an older one was left behind by a failover. */
  timeline: number;
}

export class PostgresHosts {
  readonly #hosts: readonly Host[];
  /** Where the last connection was made. */
  #primary = 0;
  readonly #history: ClusterHistory;

  /**
   * @param urls one for each server
   * @param config of the pooled connections; the URL is not in it
   * @param history shared by all that connect to this cluster
   */
  constructor(urls: readonly string[], config: PoolConfig, history: ClusterHistory) {
    this.#history = history;
    this.#hosts = urls.map((url) => {
      // A pool never keeps a connection that could not be checked.
      const verify = (client: PoolClient, done: (error?: Error) => void): void => {
        this.#check(client).then(() => {
          done();
        }, done);
      };
      const pool = new Pool({ ...config, connectionString: url, verify });
      // Who uses the connection learns of it through its query; without listeners the process would end.
      pool.on('error', () => undefined);
      pool.on('connect', (client) => {
        client.on('error', () => undefined);
      });
      return { url, pool };
    });
  }

  /** A pooled connection to the server that takes writes. */
  connect(): Promise<PoolClient> {
    return this.#tryAll(({ pool }) => pool.connect());
  }

  /**
   * A connection of its own, for what belongs to a session.
   * @param prepare is called before it connects, for listeners
   */
  connectAlone(config: ClientConfig, prepare: (client: Client) => void): Promise<Client> {
    return this.#tryAll(async ({ url }) => {
      const client = new Client({ ...config, connectionString: url });
      // pg never settles a connecting that is ended before it is done.
      const ended = new Promise<never>((_resolve, reject) => {
        client.once('end', () => {
          reject(new Error('Connection terminated'));
        });
      });
      ended.catch(() => undefined);
      client.on('error', () => undefined);
      prepare(client);
      try {
        await Promise.race([client.connect(), ended]);
        await this.#check(client);
        return client;
      } catch (error) {
        await client.end().catch(() => undefined);
        throw error;
      }
    });
  }

  async end(): Promise<void> {
    await Promise.all(this.#hosts.map(({ pool }) => pool.end()));
  }

  /** Beginning where the last one was made. */
  async #tryAll<Connection>(connect: (host: Host) => Promise<Connection>): Promise<Connection> {
    const first = this.#primary;
    let failure: unknown;
    const inTurn = [...this.#hosts.entries()];
    for (const [index, host] of [...inTurn.slice(first), ...inTurn.slice(0, first)]) {
      try {
        const connection = await connect(host);
        this.#primary = index;
        return connection;
      } catch (error) {
        // The first one says most: of a standby it is only known that it is one.
        failure ??= error;
      }
    }
    throw failure;
  }

  /** @throws LatchkeyError NET_UNREACHABLE for a standby, and for a server that a failover has left behind */
  async #check(client: ClientBase): Promise<void> {
    if (this.#hosts.length === 1) return;
    const { rows } = await client.query<{ timeline: string | null }>(
      'select case when pg_is_in_recovery() then null else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end as timeline',
    );
    const timeline = rows[0]?.timeline ?? null;
    if (timeline === null) throw notPrimary('is a standby');
    const number = Number.parseInt(timeline, 16);
    if (number < this.#history.timeline) throw notPrimary('was left behind by a failover');
    this.#history.timeline = number;
  }
}

function notPrimary(what: string): LatchkeyError {
  return new LatchkeyError('NET_UNREACHABLE', `a PostgreSQL server of the URL ${what}`, {
    hint: 'try again; the key server asks the others by itself',
  });
}
