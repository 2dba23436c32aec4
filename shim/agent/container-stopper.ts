/** Ends containers whose license says so: at once, or with SIGTERM and some time to finish first. */
import type { Clock } from '#src/base/clock.ts';
import type { Workload } from '../containerd/workloads.ts';

const SIGTERM = 15;
const SIGKILL = 9;

export interface ContainerStopperParts {
  readonly clock: Clock;
  /** Between SIGTERM and SIGKILL. */
  readonly stopGraceMs: number;
  readonly signal: (workload: Workload, signal: number) => Promise<void>;
}

/** One container that has to end. */
export interface Stoppable {
  readonly workload: Workload;
  readonly how: 'stop' | 'kill';
}

/** Names a container in maps. */
export function workloadName({ namespace, containerId }: Workload): string {
  return `${namespace}/${containerId}`;
}

export class ContainerStopper {
  readonly #parts: ContainerStopperParts;
  /** When a container got its SIGTERM, on the clock that never goes back. */
  #askedAtMs: ReadonlyMap<string, number> = new Map();

  constructor(parts: ContainerStopperParts) {
    this.#parts = parts;
  }

  /**
   * One step towards the end of each; to be repeated with those that still run, and those that have come since, until
   * there are none. SIGKILL is sent each time: a process that is being made may have missed the one before.
   */
  async step(workloads: readonly Stoppable[]): Promise<void> {
    const nowMs = this.#parts.clock.monotonicMs();
    const askedAtMs = new Map<string, number>();
    const signals = workloads.flatMap(({ workload, how }) => {
      const name = workloadName(workload);
      const asked = this.#askedAtMs.get(name);
      if (how === 'stop') askedAtMs.set(name, asked ?? nowMs);
      if (how === 'kill' || (asked !== undefined && nowMs - asked >= this.#parts.stopGraceMs)) {
        return [{ workload, signal: SIGKILL }];
      }
      return asked === undefined ? [{ workload, signal: SIGTERM }] : [];
    });
    this.#askedAtMs = askedAtMs;
    await Promise.all(signals.map(({ workload, signal }) => this.#parts.signal(workload, signal)));
  }
}
