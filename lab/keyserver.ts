/** A real key server in its own process, on free ports and a directory of its own. */
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { systemErrorCode } from '#src/base/errors.ts';
import { spawnDependent } from './dependent-process.ts';
import { freePort } from './free-port.ts';
import { removeServerDatabase, serverDatabaseUrl } from './server-database.ts';

const MAIN = join(import.meta.dirname, '..', 'keyserver', 'main.js');
const READY = /latchkey key server is (?:ready|sealed)/;

export interface KeyServerOptions {
  /** Start on the data of an earlier server; default = a new directory. Its database is found by it. */
  readonly dataDirectory?: string;
  /** More arguments for `keyserver/main.js`. */
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

export interface TestKeyServer {
  readonly adminUrl: string;
  /** `host:port`, mutual TLS. */
  readonly nodeAddress: string;
  /** `host:port`, TLS. */
  readonly enrollAddress: string;
  /** There with `--metrics-listen`. */
  readonly metricsAddress?: string | undefined;
  readonly authorityPem: string;
  /** Empty when another server made the organization, in a directory of its own. */
  readonly adminToken: string;
  readonly dataDirectory: string;
  readonly pid: number;
  /** Everything the server has written to stderr. */
  log(): string;
  /** Everything it has written to stdout. */
  printed(): string;
  /** Waits until it ends without being told here; gives its exit status, null = a signal ended it. */
  ended(): Promise<number | null>;
  /** SIGTERM; resolves with the exit status. Keeps the data. */
  stop(): Promise<number | null>;
  /** SIGKILL. Keeps the data. */
  kill(): Promise<void>;
  /** Stops it if need be and removes the data. */
  dispose(): Promise<void>;
}

/** What a key server that did not start has said. */
export class KeyServerExit extends Error {
  readonly status: number | null;
  readonly stderr: string;

  constructor(status: number | null, stderr: string) {
    super(`the key server exited with ${status ?? 'a signal'}: ${stderr}`);
    this.status = status;
    this.stderr = stderr;
  }
}

const endpointsSchema = z.object({
  adminUrl: z.string(),
  nodeAddress: z.string(),
  enrollAddress: z.string(),
  metricsAddress: z.string().optional(),
});

/** Arguments for one that will be started again where it was, while others ask for it. */
export async function keptAddresses(): Promise<string[]> {
  const [node, enroll] = [await freePort(), await freePort()];
  return ['--node-listen', `127.0.0.1:${node}`, '--enroll-listen', `127.0.0.1:${enroll}`];
}

/**
 * Starts a key server and waits until it is ready.
 * @throws KeyServerExit when it ends instead
 */
export async function startKeyServer(options: KeyServerOptions = {}): Promise<TestKeyServer> {
  if (options.dataDirectory !== undefined) return startOn(options.dataDirectory, options);
  const dataDirectory = await mkdtemp(join(tmpdir(), 'latchkey-keyserver-'));
  try {
    return await startOn(dataDirectory, options);
  } catch (error) {
    // Nobody but this function knows of it.
    await removeServerDatabase(dataDirectory).catch(() => undefined);
    await rm(dataDirectory, { recursive: true, force: true });
    throw error;
  }
}

async function startOn(dataDirectory: string, options: KeyServerOptions): Promise<TestKeyServer> {
  const env = await environment(dataDirectory, options);
  const child = spawnDependent(
    process.execPath,
    [
      MAIN,
      ...['--data', dataDirectory],
      ...['--admin-listen', '127.0.0.1:0', '--node-listen', '127.0.0.1:0', '--enroll-listen', '127.0.0.1:0'],
      ...(options.args ?? []),
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], env },
  );
  const stderr: Buffer[] = [];
  child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
  const log = () => Buffer.concat(stderr).toString();
  const stdout: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  await ready(child, exited, log);
  const endpoints = endpointsSchema.parse(JSON.parse(await readText(dataDirectory, 'endpoints.json')));
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    return exited;
  };
  return {
    ...endpoints,
    authorityPem: await readText(dataDirectory, 'authority.pem'),
    adminToken: await readAdminToken(dataDirectory),
    dataDirectory,
    pid: child.pid ?? 0,
    log,
    printed: () => Buffer.concat(stdout).toString(),
    ended: () => exited,
    stop: () => end('SIGTERM'),
    kill: async () => {
      await end('SIGKILL');
    },
    dispose: async () => {
      await end('SIGTERM');
      await removeServerDatabase(dataDirectory);
      await rm(dataDirectory, { recursive: true, force: true });
    },
  };
}

/** A test that names a database gets that one. */
async function environment(dataDirectory: string, options: KeyServerOptions): Promise<NodeJS.ProcessEnv> {
  const env = options.env ?? process.env;
  const isNamed = env['LATCHKEY_DATABASE'] !== undefined || options.args?.includes('--database') === true;
  const url = isNamed ? null : await serverDatabaseUrl(dataDirectory);
  return url === null ? env : { ...env, LATCHKEY_DATABASE: url };
}

function ready(child: ChildProcess, exited: Promise<number | null>, log: () => string): Promise<void> {
  return new Promise((resolve, reject) => {
    let stdout = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
      if (READY.test(stdout)) resolve();
    });
    void exited.then((status) => {
      reject(new KeyServerExit(status, log()));
    });
  });
}

async function readAdminToken(directory: string): Promise<string> {
  try {
    return (await readText(directory, 'admin.token')).trim();
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return '';
    throw error;
  }
}

function readText(directory: string, name: string): Promise<string> {
  return readFile(join(directory, name), 'utf8');
}
