/** Which containerds and other runtimes a machine has, judged by what runs. Pure: processes are read elsewhere. */
import { basename } from 'node:path';
import { LatchkeyError } from '#src/base/errors.ts';

export interface ProcessFacts {
  readonly pid: number;
  /** The executable file. */
  readonly program: string;
  readonly args: readonly string[];
  /** Of systemd: `containerd.service`; undefined outside of any. */
  readonly service?: string | undefined;
}

export interface FoundContainerd {
  readonly pid: number;
  readonly program: string;
  readonly configPath: string;
  /** Undefined: what the configuration says. */
  readonly address: string | undefined;
  /** `k3s` and `rke2` write the configuration of their containerd anew at each start, from a template. */
  readonly distribution: 'k3s' | 'rke2' | undefined;
  readonly service: string | undefined;
}

export const DEFAULT_CONTAINERD_CONFIG = '/etc/containerd/config.toml';

/** Every containerd that runs, with the files it was started with; one that Docker keeps for itself is not for others. */
export function runningContainerds(processes: readonly ProcessFacts[]): FoundContainerd[] {
  return processes
    .filter(({ program }) => basename(program) === 'containerd')
    .map(({ pid, program, args, service }) => {
      const configPath = optionOf(args, 'config', 'c') ?? DEFAULT_CONTAINERD_CONFIG;
      const distribution = /\/rancher\/(k3s|rke2)\//.exec(configPath)?.[1] as 'k3s' | 'rke2' | undefined;
      return { pid, program, configPath, address: optionOf(args, 'address', 'a'), distribution, service };
    })
    .filter(({ configPath }) => !configPath.includes('/docker/containerd/'));
}

/** Runtimes without containerd, which only the mode `hook` covers. */
export function otherRuntimes(processes: readonly ProcessFacts[], programs: readonly string[]): string[] {
  const running = processes.map(({ program }) => basename(program));
  return ['crio', 'podman'].filter((name) => running.includes(name) || programs.includes(name));
}

/**
 * The one containerd that is meant.
 * @param configPath the operator's choice; undefined = none
 * @returns undefined when none runs that fits
 * @throws LatchkeyError USAGE_INVALID when there are several and none was chosen
 */
export function chooseContainerd(
  found: readonly FoundContainerd[],
  configPath: string | undefined,
): FoundContainerd | undefined {
  if (configPath !== undefined) return found.find((candidate) => candidate.configPath === configPath);
  const paths = [...new Set(found.map((candidate) => candidate.configPath))];
  if (paths.length > 1) {
    const list = found.map(({ pid, program, configPath: path }) => `${path} (${program}, process ${pid})`);
    throw new LatchkeyError(
      'USAGE_INVALID',
      `${paths.length} containerds run on this machine: ${list.join(', ')}`,
      {
        hint: `choose one: --containerd-config ${paths[0] ?? ''}`,
      },
    );
  }
  return found[0];
}

function optionOf(args: readonly string[], long: string, short: string): string | undefined {
  for (const [index, argument] of args.entries()) {
    const match = /^--?([\w-]+)(?:=(.*))?$/.exec(argument);
    if (match?.[1] === long || match?.[1] === short) return match[2] ?? args[index + 1];
  }
  return undefined;
}
