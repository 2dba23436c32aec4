/** The agent's own parts in this process, without containerd: a node that asks a real key server. */
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { stringify } from 'smol-toml';
import { type Clock, systemClock } from '#src/base/clock.ts';
import type { TestKeyServer } from '../../lab/keyserver.ts';
import { type AgentConfigFile, parseAgentConfig } from '../../shim/agent/agent-config.ts';
import { Agent } from '../../shim/agent/agent.ts';
import { memoryStore } from '../../shim/snapshotter/memory-store.ts';
import type { HeldLease } from '../../shim/agent/held-lease.ts';
import { type Machine, readMachine } from '../../shim/agent/machine.ts';
import type { RegisteredImage } from './sold-product.ts';

export interface AgentNodeOptions {
  readonly directory: string;
  readonly keyServer: Pick<TestKeyServer, 'nodeAddress' | 'enrollAddress' | 'authorityPem'>;
  readonly clock?: Clock;
  readonly machine?: Machine;
  readonly settings?: Partial<AgentConfigFile>;
}

export class AgentNode {
  readonly agent: Agent;
  readonly directory: string;
  /** What the agent has logged. */
  readonly logged: string[];
  #isStopped = false;

  private constructor(agent: Agent, directory: string, logged: string[]) {
    this.agent = agent;
    this.directory = directory;
    this.logged = logged;
  }

  static async start(options: AgentNodeOptions): Promise<AgentNode> {
    const { directory, keyServer, clock = systemClock, machine = readMachine(), settings = {} } = options;
    const state = join(directory, 'state');
    for (const name of ['snapshots', 'plaintext']) await mkdir(join(state, name), { recursive: true });
    const authorityFile = join(directory, 'authority.pem');
    await writeFile(authorityFile, keyServer.authorityPem);
    const config = parseAgentConfig(
      stringify({
        key_server: keyServer.nodeAddress,
        enrollment: keyServer.enrollAddress,
        authority_file: authorityFile,
        containerd_address: join(directory, 'containerd.sock'),
        state_directory: state,
        runtime_directory: join(directory, 'run'),
        node_name: 'agent-node',
        ...settings,
      }),
      'node.toml',
    );
    const logged: string[] = [];
    const log = pino({ level: 'debug' }, { write: (line: string) => logged.push(line) });
    const copyTree = (from: string, to: string) => cp(from, to, { recursive: true });
    const store = memoryStore(config.store.directory, config.store.memoryCapacity);
    const agent = new Agent({ config, clock, log, machine, overlayOptions: [], copyTree, store });
    await agent.start();
    return new AgentNode(agent, directory, logged);
  }

  /** What a start of the image asks for. */
  lease({ imageDigest, imageKeyId }: RegisteredImage): Promise<HeldLease> {
    return this.agent.leases.require({ imageDigest, imageKeyId }, undefined);
  }

  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.agent.stop();
  }
}
