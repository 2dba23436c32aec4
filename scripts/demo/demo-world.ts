/** The parts of the demo, started one by one as the story needs them, and ended together. */
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'smol-toml';
import { AgentConnection } from '#src/wire/agent-connection.ts';
import { LabContainerd, removeLabDirectory } from '../../lab/containerd.ts';
import { CriClient } from '../../lab/cri-client.ts';
import { type DockerRegistry, startDockerRegistry } from '../../lab/docker-registry.ts';
import { stopAll } from '../../lab/stop-all.ts';
import { agentPaths } from '../../shim/agent/agent-config.ts';
import { CommandLine } from './command-line.ts';
import type { Narrator } from './narrator.ts';

const POLL_MS = 50;
const START_TIMEOUT_MS = 30_000;

interface Endpoints {
  readonly adminUrl: string;
  readonly nodeAddress: string;
  readonly enrollAddress: string;
}

export class DemoWorld {
  readonly directory: string;
  readonly commandLine: CommandLine;
  registry: DockerRegistry | undefined;
  containerd: LabContainerd | undefined;
  cri: CriClient | undefined;
  #keyServer: ChildProcess | undefined;
  #agent: ChildProcess | undefined;

  private constructor(directory: string, narrator: Narrator) {
    this.directory = directory;
    this.commandLine = new CommandLine(narrator, {
      LATCHKEY_TOKEN_FILE: join(directory, 'server', 'admin.token'),
      LATCHKEY_AGENT_SOCKET: join(directory, 'run', 'agent.sock'),
      XDG_CACHE_HOME: join(directory, 'cache'),
    });
  }

  static async create(narrator: Narrator): Promise<DemoWorld> {
    return new DemoWorld(await mkdtemp(join(tmpdir(), 'lk-demo-')), narrator);
  }

  async startRegistry(): Promise<DockerRegistry> {
    this.registry = await startDockerRegistry();
    return this.registry;
  }

  /** `latchkey serve` on free ports; gives a command line that knows where it is. */
  async startKeyServer(): Promise<{ commandLine: CommandLine; endpoints: Endpoints }> {
    const data = join(this.directory, 'server');
    const ports = [
      '--admin-listen',
      '127.0.0.1:0',
      '--node-listen',
      '127.0.0.1:0',
      '--enroll-listen',
      '127.0.0.1:0',
    ];
    const names = ['--organization', 'Acme', '--contact', 'sales@acme.example'];
    this.#keyServer = this.commandLine.start(
      join(this.directory, 'server.log'),
      'serve',
      '--data',
      data,
      ...names,
      ...ports,
    );
    const endpoints = await waitFor(this.#keyServer, async () => {
      const answer = JSON.parse(await readFile(join(data, 'endpoints.json'), 'utf8')) as Endpoints;
      await fetch(`${answer.adminUrl}/healthz`);
      return answer;
    });
    return { commandLine: this.commandLine.with({ LATCHKEY_SERVER: endpoints.adminUrl }), endpoints };
  }

  /** `latchkey node run` with all its files below the demo's directory. */
  async startAgent(endpoints: Endpoints): Promise<void> {
    const configPath = join(this.directory, 'node.toml');
    const configuration = {
      key_server: endpoints.nodeAddress,
      enrollment: endpoints.enrollAddress,
      authority_file: join(this.directory, 'server', 'authority.pem'),
      containerd_address: join(this.directory, 'containerd', 'containerd.sock'),
      state_directory: join(this.directory, 'node'),
      runtime_directory: join(this.directory, 'run'),
      node_name: 'demo-node',
    };
    await writeFile(configPath, stringify(configuration));
    this.#agent = this.commandLine.start(
      join(this.directory, 'agent.log'),
      'node',
      'run',
      '--config',
      configPath,
    );
    await waitFor(this.#agent, async () => {
      const connection = new AgentConnection(join(this.directory, 'run', 'agent.sock'));
      try {
        await connection.status();
      } finally {
        connection.close();
      }
    });
  }

  /** A containerd of our own, configured by Latchkey's installer. */
  async startContainerd(sandboxImage: string): Promise<{ containerd: LabContainerd; cri: CriClient }> {
    const paths = agentPaths(join(this.directory, 'node'), join(this.directory, 'run'));
    this.containerd = new LabContainerd({
      directory: join(this.directory, 'containerd'),
      sandboxImage,
      agent: {
        snapshotterSocket: paths.snapshotterSocket,
        processorProgram: paths.processorProgram,
        stateDirectory: join(this.directory, 'node'),
      },
    });
    await this.containerd.start();
    this.cri = new CriClient(this.containerd.address);
    return { containerd: this.containerd, cri: this.cri };
  }

  /** The ends of all logs, for a demo that failed. */
  async lastLogLines(): Promise<string> {
    const names = ['server.log', 'agent.log', 'containerd/containerd.log'];
    const logs = await Promise.all(
      names.map(async (name) => {
        const log = await readFile(join(this.directory, name), 'utf8').catch(() => '');
        return `--- ${name}\n${log.trim().split('\n').slice(-5).join('\n')}`;
      }),
    );
    return logs.join('\n');
  }

  async stop(): Promise<void> {
    this.cri?.close();
    await stopAll(
      () => this.containerd?.stop(),
      () => end(this.#agent),
      () => end(this.#keyServer),
      () => this.registry?.stop(),
      () => removeLabDirectory(this.directory),
    );
  }
}

async function waitFor<Result>(child: ChildProcess, ask: () => Promise<Result>): Promise<Result> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (child.exitCode !== null || Date.now() > deadline) throw error;
    }
    await sleep(POLL_MS);
  }
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (child?.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await ended;
}
