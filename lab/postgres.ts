/** A real PostgreSQL of its own: own data directory, a free port of the loopback, not the machine's service. */
import { type ChildProcess, execFile, execFileSync } from 'node:child_process';
import { chownSync, existsSync, readdirSync, readlinkSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { spawnDependent } from './dependent-process.ts';
import { freePort } from './free-port.ts';

const VERSIONS = '/usr/lib/postgresql';
const START_POLL_MS = 100;
/** Characters of what a server has said last, for the message of one that does not start. */
const LOG_KEPT = 2000;
const run = promisify(execFile);

export interface PostgresOptions {
  /** More settings of the server, as `name=value`. */
  readonly settings?: readonly string[];
  /** Where its own directory is made; default = the one for temporary files. */
  readonly parent?: string;
}

/** For tests that neither kill the server nor cut the power: nothing waits for the disk. */
export const FORGETFUL = ['fsync=off', 'full_page_writes=off', 'max_connections=300'];

export interface TestPostgres {
  /** URL of a database that is always there. */
  readonly url: string;
  /** `host:port` */
  readonly address: string;
  /** Runs statements on that database. */
  query(text: string): Promise<void>;
  /** Makes an empty database; gives its URL. */
  createDatabase(name: string): Promise<string>;
  /** SIGKILL to the server and, by that, the end of its children. Keeps the data. */
  kill(): Promise<void>;
  /** Starts it again after a kill, on the same port. */
  restart(): Promise<void>;
  dispose(): Promise<void>;
}

/** Why there is no PostgreSQL to test with; null when there is. */
export function postgresSkipReason(): string | null {
  return programs() === null ? 'the Debian package postgresql is not installed' : null;
}

function programs(): string | null {
  if (!existsSync(VERSIONS)) return null;
  const [newest] = readdirSync(VERSIONS).sort((left, right) => Number(right) - Number(left));
  return newest === undefined ? null : join(VERSIONS, newest, 'bin');
}

/** PostgreSQL refuses to run as root. */
function unprivileged(): { readonly uid?: number; readonly gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const idOf = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: idOf('-u'), gid: idOf('-g') };
}

/** Makes a cluster and starts it. */
export async function startPostgres(options: PostgresOptions = {}): Promise<TestPostgres> {
  return startCluster(options, async ({ bin, owner, directory, data }) => {
    const initialize = ['--pgdata', data, '--username', 'latchkey', '--auth', 'trust', '--encoding', 'UTF8'];
    await run(join(bin, 'initdb'), [...initialize, '--no-sync'], { ...owner, cwd: directory });
  });
}

/** Makes a copy of a running cluster that follows it from then on (streaming replication). */
export async function startStandby(
  primary: TestPostgres,
  options: PostgresOptions = {},
): Promise<TestPostgres> {
  return startCluster(options, async ({ bin, owner, directory, data }) => {
    const copy = ['--pgdata', data, '--dbname', primary.url, '--write-recovery-conf', '--checkpoint', 'fast'];
    await run(join(bin, 'pg_basebackup'), [...copy, '--no-sync'], { ...owner, cwd: directory });
  });
}

interface Cluster {
  readonly bin: string;
  readonly owner: { readonly uid?: number; readonly gid?: number };
  readonly directory: string;
  readonly data: string;
}

async function startCluster(
  options: PostgresOptions,
  fill: (cluster: Cluster) => Promise<void>,
): Promise<TestPostgres> {
  const bin = programs();
  if (bin === null) throw new Error(postgresSkipReason() ?? '');
  const owner = unprivileged();
  const directory = await mkdtemp(join(options.parent ?? tmpdir(), 'latchkey-postgres-'));
  if (owner.uid !== undefined && owner.gid !== undefined) chownSync(directory, owner.uid, owner.gid);
  const data = join(directory, 'data');
  await fill({ bin, owner, directory, data });
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const url = (database: string) => `postgres://latchkey@${address}/${database}`;
  const start = async () => {
    const place = ['listen_addresses=127.0.0.1', `unix_socket_directories=${directory}`];
    const settings = [...place, ...(options.settings ?? [])];
    const child = spawnDependent(
      join(bin, 'postgres'),
      ['-D', data, '-p', String(port), ...settings.flatMap((setting) => ['-c', setting])],
      { ...owner, cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let log = '';
    child.stderr?.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-LOG_KEPT)));
    await answering(child, url('postgres'), () => log);
    return child;
  };
  let server = await start();
  return {
    url: url('postgres'),
    address,
    createDatabase: async (name) => {
      await query(url('postgres'), `create database "${name}"`);
      return url(name);
    },
    query: (text) => query(url('postgres'), text),
    kill: async () => {
      await end(server, 'SIGKILL');
      await untilNobodyUses(data);
    },
    restart: async () => {
      server = await start();
    },
    dispose: async () => {
      await end(server, 'SIGINT');
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function query(url: string, text: string): Promise<void> {
  const client = new Client({ connectionString: url });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query(text);
  } finally {
    await client.end();
  }
}

async function answering(server: ChildProcess, url: string, log: () => string): Promise<void> {
  for (;;) {
    if (server.exitCode !== null) throw new Error(`PostgreSQL ended with ${server.exitCode}: ${log()}`);
    try {
      await query(url, 'select 1');
      return;
    } catch {
      await sleep(START_POLL_MS);
    }
  }
}

/** A server does not start while a child of the one before lives: it would share its memory. */
async function untilNobodyUses(data: string): Promise<void> {
  const works = (pid: string) => {
    try {
      return readlinkSync(join('/proc', pid, 'cwd')) === data;
    } catch {
      return false;
    }
  };
  const isNumber = (name: string) => /^\d+$/u.test(name);
  while (readdirSync('/proc').filter(isNumber).some(works)) await sleep(START_POLL_MS);
}

async function end(server: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const ended = new Promise((resolve) => server.once('exit', resolve));
  server.kill(signal);
  await ended;
}
