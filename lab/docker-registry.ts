/** Debian's docker-registry (distribution 2.8), started for one test on a free port of the loopback. */
import { execFileSync, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, openSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawnDependent } from './dependent-process.ts';
import { freePort } from './free-port.ts';

const REGISTRY_BINARY = '/usr/bin/docker-registry';
const HTPASSWD_BINARY = '/usr/bin/htpasswd';
const ACCESS_LOG = 'access.log';
const LOG_MARK = 'end-of-log';
const LOG_POLL_MS = 5;

export interface DockerRegistryOptions {
  /** Asks every client for this user. */
  readonly htpasswd?: { readonly user: string; readonly password: string } | undefined;
  /** Asks every client for a token. */
  readonly token?: TokenAuthentication | undefined;
}

/** Token authentication (distribution, "Token Authentication Specification"). */
export interface TokenAuthentication {
  readonly realm: string;
  readonly service: string;
  readonly issuer: string;
  /** PEM file of the certificate whose key signs the tokens. */
  readonly certificateFile: string;
}

export interface DockerRegistry {
  /** `127.0.0.1:PORT`, also after a restart. */
  readonly host: string;
  /** Requests so far, as its access log has them: `PUT /v2/a/manifests/v1 201`. */
  requests(): Promise<readonly string[]>;
  /** Where it keeps its blobs. */
  readonly directory: string;
  /** Ends it as a crash would; its files stay. */
  kill(): Promise<void>;
  /** Starts it again at the same address, with what it had stored. */
  restart(): Promise<void>;
  /** Ends it and removes its files. */
  stop(): Promise<void>;
}

/** Why tests with this registry cannot run here, or undefined when they can. */
export function dockerRegistrySkipReason(): string | undefined {
  const missing = [REGISTRY_BINARY, HTPASSWD_BINARY].filter((path) => !existsSync(path));
  return missing.length === 0
    ? undefined
    : `needs ${missing.join(' and ')}: apt-get install docker-registry apache2-utils`;
}

/** Starts a registry and waits until it listens. */
export async function startDockerRegistry(options: DockerRegistryOptions = {}): Promise<DockerRegistry> {
  const directory = await mkdtemp(join(tmpdir(), 'latchkey-registry-'));
  const authentication = await authenticationLine(directory, options);
  let running: RunningRegistry;
  try {
    running = await run(directory, `127.0.0.1:${await freePort()}`, authentication);
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
  const { host } = running;
  return {
    host,
    directory,
    requests: async () => {
      await untilLogged(host, join(directory, ACCESS_LOG));
      const lines = accessLogLines(await readFile(join(directory, ACCESS_LOG), 'utf8'));
      return lines.filter((line) => !line.includes(LOG_MARK));
    },
    kill: () => running.kill(),
    restart: async () => {
      await running.kill();
      running = await run(directory, host, authentication);
    },
    stop: async () => {
      await running.kill();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

interface RunningRegistry {
  readonly host: string;
  kill(): Promise<void>;
}

async function run(
  directory: string,
  address: string,
  authentication: string | undefined,
): Promise<RunningRegistry> {
  const configPath = join(directory, 'config.yml');
  await writeFile(configPath, configFor(directory, address, authentication));
  const accessLog = openSync(join(directory, ACCESS_LOG), 'a');
  const child = spawnDependent(REGISTRY_BINARY, ['serve', configPath], {
    stdio: ['ignore', accessLog, 'pipe'],
  });
  closeSync(accessLog);
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
  };
  try {
    return { host: await listeningAddress(child), kill };
  } catch (error) {
    await kill();
    throw error;
  }
}

function configFor(directory: string, address: string, authentication: string | undefined): string {
  const lines = [
    'version: 0.1',
    'log: { level: info, accesslog: { disabled: false } }',
    `storage: { filesystem: { rootdirectory: ${join(directory, 'storage')} }, delete: { enabled: true } }`,
    // Its uploads can be resumed after a restart only when it signs their state with the same secret.
    `http: { addr: "${address}", secret: test }`,
  ];
  if (authentication !== undefined) lines.push(authentication);
  return `${lines.join('\n')}\n`;
}

async function authenticationLine(
  directory: string,
  options: DockerRegistryOptions,
): Promise<string | undefined> {
  if (options.token !== undefined) {
    const { realm, service, issuer, certificateFile } = options.token;
    return `auth: { token: { realm: "${realm}", service: ${service}, issuer: ${issuer}, rootcertbundle: ${certificateFile} } }`;
  }
  if (options.htpasswd === undefined) return undefined;
  const { user, password } = options.htpasswd;
  const path = join(directory, 'htpasswd');
  await writeFile(path, execFileSync(HTPASSWD_BINARY, ['-Bin', user], { input: password }));
  return `auth: { htpasswd: { realm: test, path: ${path} } }`;
}

/** The registry answers before it writes down what was asked: one question more, and the others are in its log. */
async function untilLogged(host: string, log: string): Promise<void> {
  const mark = `/v2/?${LOG_MARK}=${randomBytes(8).toString('hex')}`;
  try {
    await (await fetch(`http://${host}${mark}`)).arrayBuffer();
  } catch {
    // One that has ended has written everything.
    return;
  }
  while (!(await readFile(log, 'utf8')).includes(mark)) await sleep(LOG_POLL_MS);
}

/** Method, path and status of each line in Apache's combined format. */
function accessLogLines(log: string): string[] {
  return [...log.matchAll(/"([A-Z]+ \S+) HTTP\/[\d.]+" (\d{3}) /g)].map(
    ([, request = '', status = '']) => `${request} ${status}`,
  );
}

/** The registry picks the port and says it in its log. */
function listeningAddress(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    const log: string[] = [];
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`docker-registry ended:\n${log.join('\n')}`)));
    if (child.stderr === null) throw new TypeError('stderr must be a pipe');
    createInterface({ input: child.stderr }).on('line', (line) => {
      log.push(line);
      const address = /listening on (127\.0\.0\.1:\d+)/.exec(line)?.[1];
      if (address !== undefined) resolve(address);
    });
  });
}
