/** Debian's docker-registry (distribution 2.8), started for one test on a free port of the loopback. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const REGISTRY_BINARY = '/usr/bin/docker-registry';
const HTPASSWD_BINARY = '/usr/bin/htpasswd';

export interface DockerRegistryOptions {
  /** Asks every client for this user. */
  readonly htpasswd?: { readonly user: string; readonly password: string } | undefined;
}

export interface DockerRegistry {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  /** Where it keeps its blobs. */
  readonly directory: string;
  stop(): Promise<void>;
}

/** Why tests with this registry cannot run here, or undefined when they can. */
export function dockerRegistrySkipReason(): string | undefined {
  const missing = [REGISTRY_BINARY, HTPASSWD_BINARY].filter((path) => !existsSync(path));
  return missing.length === 0
    ? undefined
    : `needs ${missing.join(' and ')}: apt-get install docker-registry apache2-utils`;
}

/** Starts a registry and waits until it listens; `stop` ends it and removes its files. */
export async function startDockerRegistry(options: DockerRegistryOptions = {}): Promise<DockerRegistry> {
  const directory = await mkdtemp(join(tmpdir(), 'latchkey-registry-'));
  const configPath = join(directory, 'config.yml');
  await writeFile(configPath, await config(directory, options));
  const child = spawn(REGISTRY_BINARY, ['serve', configPath], { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
    await rm(directory, { recursive: true, force: true });
  };
  try {
    return { host: await listeningAddress(child), directory, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function config(directory: string, options: DockerRegistryOptions): Promise<string> {
  const lines = [
    'version: 0.1',
    'log: { level: info, accesslog: { disabled: true } }',
    `storage: { filesystem: { rootdirectory: ${join(directory, 'storage')} }, delete: { enabled: true } }`,
    'http: { addr: "127.0.0.1:0" }',
  ];
  if (options.htpasswd !== undefined) {
    const { user, password } = options.htpasswd;
    const passwordFile = join(directory, 'htpasswd');
    await writeFile(passwordFile, execFileSync(HTPASSWD_BINARY, ['-Bin', user], { input: password }));
    lines.push(`auth: { htpasswd: { realm: test, path: ${passwordFile} } }`);
  }
  return `${lines.join('\n')}\n`;
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
