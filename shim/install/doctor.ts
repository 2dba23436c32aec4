/** Finds what is wrong with a node and says how to mend it. Pure: the facts are gathered elsewhere. */
import { type TomlTable, processorIds } from './containerd-config.ts';
import type { AgentPaths } from '../agent/agent-config.ts';
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';

export interface NodeFacts {
  readonly paths: AgentPaths;
  /** What the agent says of itself; undefined when it does not answer. */
  readonly agent:
    | {
        readonly nodeId: string;
        readonly keyServer: string;
        readonly keyServerConnected: boolean;
        readonly containerdVersion: string;
        readonly plaintextBytes: number;
        readonly plaintextCapacityBytes: number;
      }
    | undefined;
  /** containerd's configuration file; undefined when there is none. */
  readonly containerdConfig: TomlTable | undefined;
  readonly containerdConfigPath: string;
  /** False when plaintext could reach a swap device. */
  readonly neverSwapped: boolean;
}

export interface Finding {
  readonly check: string;
  readonly ok: boolean;
  /** What is so. */
  readonly detail: string;
  /** What to do about it, when it is not as it should be. */
  readonly mend?: string;
}

/** The plaintext store is called nearly full from here on. */
const NEARLY_FULL = 0.9;

/** Every check with its finding, in the order in which they should be mended. */
export function diagnose(facts: NodeFacts): Finding[] {
  const unknown = facts.agent === undefined;
  return [
    agentFinding(facts),
    ...(unknown ? [] : [containerdFinding(facts)]),
    snapshotterFinding(facts),
    ...processorFindings(facts),
    criFinding(facts),
    swapFinding(facts),
    // What only the agent knows is not guessed at while it does not answer.
    ...(unknown ? [] : [activationFinding(facts), keyServerFinding(facts), spaceFinding(facts)]),
  ];
}

function finding(check: string, ok: boolean, detail: string, mend: string): Finding {
  return ok ? { check, ok, detail } : { check, ok, detail, mend };
}

function agentFinding({ agent, paths }: NodeFacts): Finding {
  const answers = agent !== undefined;
  const detail = answers ? `answers at ${paths.agentSocket}` : `does not answer at ${paths.agentSocket}`;
  return finding('agent', answers, detail, "start it: 'latchkey node run', as root");
}

function containerdFinding({ agent }: NodeFacts): Finding {
  const version = agent?.containerdVersion ?? '';
  const detail = version === '' ? 'the agent cannot reach it' : `version ${version}`;
  return finding(
    'containerd',
    version !== '',
    detail,
    'start containerd, or set containerd_address in the agent’s configuration',
  );
}

function snapshotterFinding({ containerdConfig, containerdConfigPath, paths }: NodeFacts): Finding {
  const address = at(containerdConfig, 'proxy_plugins', SNAPSHOTTER_NAME, 'address');
  const ok = address === paths.snapshotterSocket;
  const detail = ok
    ? `registered at ${paths.snapshotterSocket}`
    : `not registered in ${containerdConfigPath}`;
  return finding('snapshotter', ok, detail, "run 'latchkey node install' and restart containerd");
}

function processorFindings({ containerdConfig, paths }: NodeFacts): Finding[] {
  return processorIds().map((id) => {
    const path = at(containerdConfig, 'stream_processors', id, 'path');
    const ok = path === paths.processorProgram;
    const detail = ok
      ? `${id} runs ${paths.processorProgram}`
      : `${id} is not ours (${typeof path === 'string' ? path : 'not set'})`;
    return finding('stream processor', ok, detail, "run 'latchkey node install' and restart containerd");
  });
}

function criFinding({ containerdConfig }: NodeFacts): Finding {
  const version2 = at(containerdConfig, 'plugins', 'io.containerd.grpc.v1.cri', 'containerd', 'snapshotter');
  const version3 = at(containerdConfig, 'plugins', 'io.containerd.cri.v1.images', 'snapshotter');
  const ok = version2 === SNAPSHOTTER_NAME || version3 === SNAPSHOTTER_NAME;
  const detail = ok ? 'Kubernetes uses the latchkey snapshotter' : 'Kubernetes uses another snapshotter';
  return finding('CRI', ok, detail, "run 'latchkey node install' and restart containerd");
}

function activationFinding({ agent }: NodeFacts): Finding {
  const nodeId = agent?.nodeId ?? '';
  const detail = nodeId === '' ? 'this node has no license' : `activated as ${nodeId}`;
  return finding('activation', nodeId !== '', detail, "run 'latchkey node activate <license key>'");
}

function keyServerFinding({ agent }: NodeFacts): Finding {
  const connected = agent?.keyServerConnected === true;
  const detail = `${agent?.keyServer ?? 'unknown'} is ${connected ? 'connected' : 'not connected'}`;
  return finding(
    'key server',
    connected,
    detail,
    'check the address, the firewall and the clock; activate first',
  );
}

function swapFinding({ neverSwapped }: NodeFacts): Finding {
  const detail = neverSwapped ? 'plaintext cannot reach a swap device' : 'plaintext may be written to swap';
  return finding('swap', neverSwapped, detail, 'turn swap off, or use a kernel of version 6.4 or later');
}

function spaceFinding({ agent }: NodeFacts): Finding {
  const used = agent?.plaintextBytes ?? 0;
  const capacity = agent?.plaintextCapacityBytes ?? 0;
  const ok = capacity === 0 || used < capacity * NEARLY_FULL;
  const detail = `${used} of ${capacity} bytes of the plaintext store are used`;
  return finding('plaintext store', ok, detail, 'raise plaintext_capacity in the agent’s configuration');
}

function at(root: TomlTable | undefined, ...path: string[]): unknown {
  let current: unknown = root;
  for (const key of path) {
    current = typeof current === 'object' && current !== null ? (current as TomlTable)[key] : undefined;
  }
  return current;
}
