/** A node whose agent or containerd is killed at a chosen point and started again at once. */
import { readFile, statfs } from 'node:fs/promises';
import type { ContainerdVersion } from '../../lab/containerd-versions.ts';
import {
  CALL_MOMENTS,
  type CallMoment,
  type ProxiedCall,
  SnapshotterProxy,
} from '../../lab/snapshotter-proxy.ts';
import { GatedSite } from '../e2e/gated-site.ts';
import { processesOf } from '../fakes/processes.ts';
import type { KillPoint } from './kill-point.ts';

const POLL_MS = 1;

interface Armed {
  readonly point: KillPoint;
  readonly streamBytes: number;
  /** Calls of the point's method that were let through. */
  passed: number;
}

export class FragileNode {
  readonly gated: GatedSite;
  readonly #proxy: SnapshotterProxy;
  #armed: Armed | undefined;
  #recovery: Promise<void> = Promise.resolve();
  /** Calls of each method that have been answered since the last phase began. */
  readonly seen = new Map<string, number>();

  private constructor(gated: GatedSite, proxy: SnapshotterProxy) {
    this.gated = gated;
    this.#proxy = proxy;
    proxy.hook = (call, moment) => this.#onCall(call, moment);
  }

  static async start(containerd: ContainerdVersion): Promise<FragileNode> {
    let proxy: SnapshotterProxy | undefined;
    const gated = await GatedSite.start({
      containerd,
      snapshotterProxy: async (agentSocket, proxySocket) => {
        proxy = await SnapshotterProxy.start(proxySocket, agentSocket);
      },
    });
    if (proxy === undefined) throw new TypeError('the site has asked for no proxy');
    return new FragileNode(gated, proxy);
  }

  /** @param streamBytes size of the layer that may stream in this phase */
  arm(point: KillPoint, streamBytes: number): void {
    this.seen.clear();
    const armed: Armed = { point, streamBytes, passed: 0 };
    this.#armed = armed;
    if ('stream' in point.at) void this.#watchStream(armed);
  }

  /** True when the point was reached since it was armed; nothing is killed any more from now on. */
  async recovered(): Promise<boolean> {
    const reached = this.#armed === undefined;
    this.#armed = undefined;
    await this.#recovery;
    await this.#proxy.untilConnected();
    return reached;
  }

  async stop(): Promise<void> {
    this.#armed = undefined;
    await this.#recovery.catch(() => undefined);
    await this.gated.stop();
    this.#proxy.close();
  }

  async #onCall(call: ProxiedCall, moment: CallMoment): Promise<boolean> {
    if (moment === 'answered') this.seen.set(call.method, (this.seen.get(call.method) ?? 0) + 1);
    const armed = this.#armed;
    if (armed === undefined || 'stream' in armed.point.at) return false;
    const { at } = armed.point;
    if (at.method !== call.method || at.moment !== moment) return false;
    armed.passed += 1;
    if (armed.passed <= (at.after ?? 0)) return false;
    await this.#kill(armed);
    return moment !== CALL_MOMENTS[2];
  }

  /** As often as can be, because a small layer is through in a few milliseconds. */
  async #watchStream(armed: Armed): Promise<void> {
    const { agent } = this.gated.site;
    const { bfree: before, bsize } = await statfs(agent.paths.memoryDirectory);
    while (this.#armed === armed) {
      const isReached =
        'stream' in armed.point.at && armed.point.at.stream === 'begun'
          ? processesOf(agent.paths.processorProgram).length > 0
          : await statfs(agent.paths.memoryDirectory).then(
              ({ bfree }) => (before - bfree) * bsize > armed.streamBytes / 2,
            );
      if (isReached && this.#armed === armed) await this.#kill(armed);
      else await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Resolves when the victim is dead; it comes back by itself. */
  async #kill({ point }: Armed): Promise<void> {
    this.#armed = undefined;
    const victim = this.gated.site[point.victim];
    const death = victim.kill();
    this.#recovery = death.then(() => victim.start());
    await death;
  }
}

/** What is mounted below a directory. */
export async function mountsBelow(directory: string): Promise<string[]> {
  const mounts = await readFile('/proc/self/mounts', 'utf8');
  return mounts
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((point) => point.startsWith(`${directory}/`));
}
