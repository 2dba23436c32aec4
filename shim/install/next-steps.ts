/** What remains to be done after an installation, in words and as commands. */
import { readdir } from 'node:fs/promises';
import { LatchkeyError } from '#src/base/errors.ts';
import { mayHaveSwap } from '../snapshotter/plaintext-store.ts';
import { agentAnswers } from './agent-presence.ts';
import type { InstallPlan, InstallResult } from './install.ts';
import type { InstallRequest, Machine } from './machine.ts';
import { besides } from './containerd-plan.ts';
import { NODE_SERVICE } from './systemd-units.ts';

interface Circumstances {
  readonly request: InstallRequest;
  readonly machine: Machine;
  readonly changed: boolean;
}

/** @returns the last parts of an answer of `install` */
export async function nextSteps(
  plan: InstallPlan,
  { request, machine, changed }: Circumstances,
): Promise<Pick<InstallResult, 'notes' | 'next' | 'restart'>> {
  const service = plan.containerd?.service;
  // One that does not answer was not started after an earlier installation: the same is left to do as after that.
  const isOpen = changed || !(await agentAnswers(plan.agent.paths.agentSocket));
  const restart = !machine.hasSystemd
    ? []
    : [
        ['systemctl', 'daemon-reload'],
        ['systemctl', 'enable', NODE_SERVICE],
        ['systemctl', 'restart', NODE_SERVICE],
        ...(service === undefined ? [] : [['systemctl', 'restart', service]]),
      ];
  const byHand = [
    `latchkey node run --config ${request.config}`,
    ...(plan.containerd === undefined ? [] : ['# then restart containerd, by the means of this system']),
  ];
  const isActivated = (await readdir(plan.agent.paths.identityDirectory).catch(() => [])).length > 0;
  const next = [
    ...(isOpen ? (machine.hasSystemd ? restart.map((command) => command.join(' ')) : byHand) : []),
    ...(isActivated ? [] : [`latchkey node activate -${socketOption(plan)}`]),
    ...(plan.runtimeClass === undefined || !isOpen
      ? []
      : [`kubectl apply -f ${besides(request.config, 'runtime-class.yaml')}`]),
  ];
  return { notes: changed ? await notes(plan, machine) : [], next, restart: isOpen ? restart : [] };
}

async function notes(plan: InstallPlan, machine: Machine): Promise<string[]> {
  const { containerd, mode } = plan;
  const lines: string[] = [];
  if (containerd?.plan.hasCri === false)
    lines.push('CRI is turned off in this containerd: Kubernetes cannot use it, ctr and nerdctl can');
  if (containerd !== undefined && mode === 'snapshotter' && containerd.plan.hasCri)
    lines.push(
      'every pod of this node uses the latchkey snapshotter from now on: drain the node before containerd is restarted',
    );
  if (mode === 'hook')
    lines.push(
      `CRI-O reads ${machine.hooks} by itself; podman needs hooks_dir = ["${machine.hooks}"] below [engine] in containers.conf`,
    );
  if (!machine.hasSystemd)
    lines.push(
      'systemd does not run here: no service was written, the agent has to be started by other means',
    );
  if (await mayHaveSwap())
    lines.push(
      "swap is on: a kernel before 6.4 cannot keep plaintext out of it; 'latchkey node doctor' says whether that is so here",
    );
  return lines;
}

function socketOption({ agent }: InstallPlan): string {
  const { agentSocket } = agent.paths;
  return agentSocket === '/run/latchkey/agent.sock' ? '' : ` --socket ${agentSocket}`;
}

/**
 * Runs commands one after the other.
 * @throws LatchkeyError STATE_PRECONDITION naming the one that failed, with its own last words
 */
export async function runCommands(
  commands: readonly (readonly string[])[],
  run: (program: string, args: readonly string[]) => Promise<unknown>,
): Promise<void> {
  for (const [program = '', ...args] of commands) {
    try {
      await run(program, args);
    } catch (error) {
      const { stderr = '' } = error as { stderr?: string };
      throw new LatchkeyError(
        'STATE_PRECONDITION',
        `'${[program, ...args].join(' ')}' failed: ${stderr.trim().split('\n').at(-1) ?? ''}`,
        {
          hint: "see 'journalctl -u latchkey-node' and run it again by hand",
          cause: error,
        },
      );
    }
  }
}
