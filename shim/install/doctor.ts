/** Finds what is wrong with a node and says how to mend it. Pure: the facts are gathered elsewhere. */
import type { NodeMode } from '../agent/node-mode.ts';
import { type AgentCircumstances, agentFindings } from './doctor-agent.ts';
import { type ContainerdFacts, containerdFindings } from './doctor-containerd.ts';
import { type HookFacts, hookFindings } from './doctor-hook.ts';
import { type MachineFacts, machineFindings } from './doctor-machine.ts';
import { type Finding, fault } from './finding.ts';

export interface NodeFacts {
  readonly mode: NodeMode;
  readonly agent: AgentCircumstances;
  /** Undefined in the mode `hook`; words when there is none. */
  readonly containerd: ContainerdFacts | string | undefined;
  /** Undefined in the other modes. */
  readonly hook: HookFacts | undefined;
  readonly machine: MachineFacts;
}

/** Every check with its finding, in the order in which they should be mended. */
export function diagnose({ mode, agent, containerd, hook, machine }: NodeFacts): Finding[] {
  return [
    ...machineFindings(machine),
    ...(typeof containerd === 'string'
      ? [
          fault(
            'containerd-missing',
            'bad',
            containerd,
            'install containerd 1.6 or later, or name it with --containerd-config',
          ),
        ]
      : containerd === undefined
        ? []
        : containerdFindings(containerd, mode)),
    ...(hook === undefined ? [] : hookFindings(hook)),
    ...agentFindings(agent),
  ];
}
