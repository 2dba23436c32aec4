/**
 * A containerd of our own beside whatever the machine runs: own root, state, sockets and configuration, made by
 * the same code that installs Latchkey on a customer's machine. Stopped with everything it started.
 */
import { type ChildProcess, execFile } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { stringify } from 'smol-toml';
import { LatchkeyError } from '#src/base/errors.ts';
import { ContainerdConnection } from '../shim/containerd/connection.ts';
import type { NodeMode } from '../shim/agent/node-mode.ts';
import { type TomlTable, withLatchkey } from '../shim/install/containerd-config.ts';
import { spawnDependent } from './dependent-process.ts';
import { labConfiguration, pullingLocally, pullingOverTransfer } from './containerd-configuration.ts';
import {
  type ContainerdVersion,
  INSTALLED_CONTAINERD,
  configurationVersionOf,
  containerdDirectory,
} from './containerd-versions.ts';
import { CriClient } from './cri-client.ts';
import { machineArchitecture } from './image-builder.ts';

const run = promisify(execFile);

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
const POLL_MS = 50;

export interface LabContainerdOptions {
  /** Everything of this containerd goes below; short, because socket paths are. */
  readonly directory: string;
  /** The agent whose snapshotter and processor it uses; without one it is a stock containerd. */
  readonly agent?: {
    readonly snapshotterSocket: string;
    readonly processorProgram: string;
    readonly stateDirectory: string;
  };
  /** Of that agent: how containerd is set up for it. */
  readonly mode?: NodeMode;
  /** Decoders of a stock containerd, as its `stream_processors` table. */
  readonly streamProcessors?: TomlTable;
  /** Reference of the image that pod sandboxes run. */
  readonly sandboxImage: string;
  /** True to start it with the `config.toml` that is in its directory. */
  readonly keepsConfiguration?: boolean;
  /** Debian 12's, which is installed, unless another is named. */
  readonly version?: ContainerdVersion;
  /** 2.x: CRI pulls through the transfer service. */
  readonly pullsOverTransfer?: boolean;
}

export interface CommandResult {
  readonly status: number;
  readonly output: string;
}

export class LabContainerd {
  readonly address: string;
  readonly root: string;
  readonly #options: LabContainerdOptions;
  #process: ChildProcess | undefined;

  constructor(options: LabContainerdOptions) {
    this.#options = options;
    this.address = join(options.directory, 'containerd.sock');
    this.root = join(options.directory, 'root');
  }

  /** Starts it and waits until it answers. */
  async start(): Promise<void> {
    const { directory } = this.#options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const configPath = join(directory, 'config.toml');
    if (this.#options.keepsConfiguration !== true)
      await writeFile(configPath, stringify(await this.#configuration()));
    const log = openSync(join(directory, 'containerd.log'), 'a');
    this.#process = spawnDependent(this.#program('containerd'), ['--config', configPath], {
      stdio: ['ignore', log, log],
      env: this.#environment(),
      detached: true,
    });
    closeSync(log);
    await this.#untilReady(configPath);
  }

  /** Stops containerd, the containers it runs and their shims, and unmounts what they left. */
  async stop(): Promise<void> {
    await this.removeAllContainers().catch(() => undefined);
    await this.#end('SIGTERM');
    await this.killShims();
    await unmountBelow(this.#options.directory);
  }

  /** As a crash does it; containers go on. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Runs the `ctr` of its version against this containerd. */
  async ctr(args: readonly string[], namespace = 'default'): Promise<CommandResult> {
    const command = ['--address', this.address, '--namespace', namespace, ...args];
    try {
      const { stdout, stderr } = await run(this.#program('ctr'), command, { maxBuffer: 64 * 1024 * 1024 });
      return { status: 0, output: `${stdout}${stderr}` };
    } catch (error) {
      const failed = error as { code?: number; stdout?: string; stderr?: string };
      return { status: failed.code ?? 1, output: `${failed.stdout ?? ''}${failed.stderr ?? ''}` };
    }
  }

  /** Has it collect all that nobody refers to, and waits for that. */
  async collectGarbage(): Promise<void> {
    const lease = (await this.ctr(['leases', 'create'])).output.trim();
    const { status, output } = await this.ctr(['leases', 'delete', '--sync', lease]);
    if (status !== 0) throw new Error(output);
  }

  async removeAllContainers(): Promise<void> {
    const connection = new ContainerdConnection(this.address);
    try {
      for (const namespace of await connection.namespaces()) {
        const { output } = await this.ctr(['containers', 'list', '--quiet'], namespace);
        for (const id of output.split('\n').filter((line) => line !== '')) {
          await this.ctr(['tasks', 'kill', '--signal', 'SIGKILL', '--all', id], namespace);
          await this.ctr(['tasks', 'delete', '--force', id], namespace);
          await this.ctr(['containers', 'delete', id], namespace);
        }
      }
    } finally {
      connection.close();
    }
  }

  /** Ends the shims of this containerd only: they carry its address on their command line. */
  async killShims(): Promise<void> {
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      const line = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '');
      if (line.includes('containerd-shim') && line.includes(this.address))
        process.kill(Number(entry), 'SIGKILL');
    }
  }

  /** 0 before the first start. */
  get processId(): number {
    return this.#process?.pid ?? 0;
  }

  get versionName(): ContainerdVersion {
    return this.#options.version ?? INSTALLED_CONTAINERD;
  }

  /** As it says itself: `1.6.20~ds1`. */
  async version(): Promise<string> {
    const { stdout } = await run(this.#program('containerd'), ['--version']);
    return stdout.trim().split(/\s+/)[2] ?? stdout;
  }

  #program(name: 'containerd' | 'ctr'): string {
    return join(containerdDirectory(this.versionName) ?? '', name);
  }

  /** containerd starts the shim that it finds first: it has to be its own. */
  #environment(): NodeJS.ProcessEnv {
    const directory = containerdDirectory(this.versionName);
    return directory === undefined
      ? process.env
      : { ...process.env, PATH: `${directory}:${process.env['PATH'] ?? ''}` };
  }

  async #configuration(): Promise<TomlTable> {
    const { directory, agent, mode = 'snapshotter', sandboxImage, streamProcessors } = this.#options;
    const base = labConfiguration({
      configurationVersion: configurationVersionOf(this.versionName),
      directory,
      root: this.root,
      address: this.address,
      sandboxImage,
    });
    if (agent === undefined) {
      if (streamProcessors === undefined) return base;
      const stock = { ...base, stream_processors: streamProcessors };
      return configurationVersionOf(this.versionName) === 3 ? pullingLocally(stock) : stock;
    }
    const configuration = withLatchkey(base, {
      containerdVersion: await this.version(),
      mode,
      snapshotterSocket: agent.snapshotterSocket,
      processor: { path: agent.processorProgram, args: [] },
      snapshotterRoot: agent.stateDirectory,
      platform: `linux/${machineArchitecture()}`,
    });
    return this.#options.pullsOverTransfer === true ? pullingOverTransfer(configuration) : configuration;
  }

  async #untilReady(configPath: string): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    const connection = new ContainerdConnection(this.address);
    const cri = new CriClient(this.address);
    try {
      for (;;) {
        if (this.#process?.exitCode !== null || Date.now() > deadline) {
          const log = await readFile(join(this.#options.directory, 'containerd.log'), 'utf8');
          throw new LatchkeyError('NET_UNREACHABLE', `containerd did not start with ${configPath}`, {
            hint: log.split('\n').slice(-5).join(' | '),
          });
        }
        // CRI comes up after the rest, and says until then that it is not initialized.
        if ((await connection.version().then(Boolean, () => false)) && (await cri.isReady())) return;
        await sleep(POLL_MS);
      }
    } finally {
      cri.close();
      connection.close();
    }
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
  }
}

/** Unmounts everything below a directory, deepest first. */
export async function unmountBelow(directory: string): Promise<void> {
  const mounts = await readFile('/proc/self/mounts', 'utf8');
  const points = mounts
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((point) => point.startsWith(`${directory}/`))
    .sort((left, right) => right.length - left.length);
  for (const point of points) await run('umount', ['--lazy', point]).catch(() => undefined);
}

/** Removes a lab directory, with what is still mounted below it. */
export async function removeLabDirectory(directory: string): Promise<void> {
  await unmountBelow(directory);
  await rm(directory, { recursive: true, force: true });
}
