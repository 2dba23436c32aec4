/** The node agent as a process of its own, with everything below one directory. */
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'smol-toml';
import { programCommand } from '#src/base/installation.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { type AgentConfigFile, type AgentPaths, agentPaths } from '../shim/agent/agent-config.ts';
import { AgentConnection } from '#src/wire/agent-connection.ts';
import { spawnDependent } from './dependent-process.ts';
import { unmountBelow } from './containerd.ts';

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
const POLL_MS = 50;
const SOURCES = programCommand('shim/agent/main.js');

export interface LabAgentOptions {
  readonly directory: string;
  readonly containerdAddress: string;
  readonly keyServer: string;
  readonly enrollment: string;
  readonly authorityFile: string;
  readonly settings?: Partial<AgentConfigFile>;
  /** What is given the configuration's path and is the agent then; the sources unless another is named. */
  readonly command?: readonly [string, ...string[]];
  readonly env?: NodeJS.ProcessEnv;
}

export class LabAgent {
  readonly paths: AgentPaths;
  readonly stateDirectory: string;
  readonly configPath: string;
  readonly #options: LabAgentOptions;
  #process: ChildProcess | undefined;

  constructor(options: LabAgentOptions) {
    this.#options = options;
    this.stateDirectory = join(options.directory, 'state');
    this.configPath = join(options.directory, 'node.toml');
    this.paths = agentPaths(this.stateDirectory, join(options.directory, 'run'));
  }

  /** @param settings beside those that it was made with */
  async start(settings: Partial<AgentConfigFile> = {}): Promise<void> {
    const { directory, command = SOURCES, env = process.env } = this.#options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writeFile(this.configPath, stringify({ ...this.#configuration(), ...settings }));
    const log = openSync(join(directory, 'agent.log'), 'a');
    const [program, ...args] = command;
    const child = spawnDependent(program, [...args, this.configPath], {
      stdio: ['ignore', log, log],
      env: { ...env, MALLOC_ARENA_MAX: '1' },
      detached: true,
    });
    closeSync(log);
    try {
      await this.#untilReady(child);
    } catch (error) {
      // It would go on alone, and keep its store mounted.
      child.kill('SIGKILL');
      throw error;
    }
    this.#process = child;
  }

  /** Of the agent that runs. */
  get processId(): number {
    const processId = this.#process?.pid;
    if (processId === undefined) throw new TypeError('the agent was not started');
    return processId;
  }

  connect(): AgentConnection {
    return new AgentConnection(this.paths.agentSocket);
  }

  async log(): Promise<string> {
    return readFile(join(this.#options.directory, 'agent.log'), 'utf8');
  }

  /** Clean end; the plaintext store stays mounted. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** What a reboot does to a node: the agent and everything in memory are gone. */
  async forgetMemory(): Promise<void> {
    await unmountBelow(this.stateDirectory);
  }

  #configuration(): AgentConfigFile {
    const { directory, containerdAddress, keyServer, enrollment, authorityFile, settings } = this.#options;
    return {
      key_server: keyServer,
      enrollment,
      authority_file: authorityFile,
      containerd_address: containerdAddress,
      state_directory: this.stateDirectory,
      runtime_directory: join(directory, 'run'),
      node_name: 'lab-node',
      ...settings,
    };
  }

  /** By its own word in the log: the socket may still be another agent's. */
  async #untilReady(child: ChildProcess): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      const lines = (await this.log()).trim().split('\n');
      if (lines.some((line) => line.includes(`"pid":${child.pid ?? 0},`) && line.includes('agent ready')))
        return;
      if (child.exitCode !== null || Date.now() > deadline) {
        throw new LatchkeyError('NET_UNREACHABLE', 'the agent did not start', { hint: lines.at(-1) });
      }
      await sleep(POLL_MS);
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
