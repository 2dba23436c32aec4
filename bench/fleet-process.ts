/**
 * A part of a fleet in a process of its own: one process of thousands of nodes would be slower than the server, and what
 * was measured would be the nodes.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { FleetNode, type FleetServer } from './fleet-node.ts';
import type { TlsIdentity } from './machine-limits.ts';

/** Handshakes at once of nodes that come without haste. */
const IN_FLIGHT = 16;

type Order =
  | { readonly kind: 'make'; readonly identities: readonly TlsIdentity[] }
  | { readonly kind: 'watch'; readonly server: FleetServer }
  | { readonly kind: 'await-change' }
  | { readonly kind: 'restart' }
  | { readonly kind: 'come-back'; readonly server: FleetServer }
  | { readonly kind: 'close' };

/** What a process has to say: at once that it has begun, and later what came of it. */
type Report =
  | { readonly kind: 'begun' }
  | { readonly kind: 'done'; readonly times: readonly number[]; readonly redials: number };

export interface Returned {
  /** When each node was served, on the clock of `nowMs`. */
  readonly times: readonly number[];
  /** Connections that came to nothing. */
  readonly redials: number;
}

/** One clock for all processes of the machine. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

export class FleetProcess {
  readonly #child: ChildProcess;

  /** Starts a process with a node for each identity. */
  constructor(identities: readonly TlsIdentity[]) {
    this.#child = fork(import.meta.filename, ['nodes']);
    this.#child.send({ kind: 'make', identities } satisfies Order);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Connects every node, few at a time. */
  async watch(server: FleetServer): Promise<void> {
    await this.#order({ kind: 'watch', server });
  }

  /**
   * Waits for the next change of a license at every node.
   * @returns once they wait, what tells when each of them has heard of it
   */
  async awaitChange(): Promise<() => Promise<readonly number[]>> {
    const begun = once(this.#child, 'message');
    this.#child.send({ kind: 'await-change' } satisfies Order);
    await begun;
    const done = this.#done();
    return async () => (await done).times;
  }

  /** Makes new agents of all nodes. */
  async restart(): Promise<void> {
    await this.#order({ kind: 'restart' });
  }

  /** Every node has noticed an outage and dials, until it watches again. */
  comeBack(server: FleetServer): Promise<Returned> {
    return this.#order({ kind: 'come-back', server });
  }

  /** Closes every connection. */
  async close(): Promise<void> {
    await this.#order({ kind: 'close' });
  }

  stop(): void {
    this.#child.kill();
  }

  #order(order: Order): Promise<Returned> {
    const done = this.#done();
    this.#child.send(order);
    return done;
  }

  async #done(): Promise<Returned> {
    for (;;) {
      const [report] = (await once(this.#child, 'message')) as [Report];
      if (report.kind === 'done') return report;
    }
  }
}

/** The process: carries out one order after the other. */
class Nodes {
  readonly #nodes: FleetNode[] = [];

  async carryOut(order: Order): Promise<Returned> {
    const times: number[] = [];
    const nodes = this.#nodes;
    switch (order.kind) {
      case 'make':
        nodes.push(...order.identities.map((identity) => new FleetNode(identity)));
        return { times, redials: 0 };
      case 'watch':
        await this.#fewAtATime((node) => node.watch(order.server));
        return { times, redials: 0 };
      case 'await-change': {
        const heard = nodes.map(async (node) => {
          await node.nextChange();
          times.push(nowMs());
        });
        tell({ kind: 'begun' });
        await Promise.all(heard);
        return { times, redials: 0 };
      }
      case 'restart':
        for (const node of nodes) node.restart();
        return { times, redials: 0 };
      case 'come-back': {
        const comings = nodes.map(async (node) => {
          const redials = await node.comeBack(order.server);
          times.push(nowMs());
          return redials;
        });
        const redials = (await Promise.all(comings)).reduce((sum, count) => sum + count, 0);
        return { times, redials };
      }
      case 'close':
        for (const node of nodes) node.close();
        return { times, redials: 0 };
    }
  }

  async #fewAtATime(work: (node: FleetNode) => Promise<void>): Promise<void> {
    const left = this.#nodes.values();
    const worker = async () => {
      for (const node of left) await work(node);
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  }
}

function tell(report: Report): void {
  process.send?.(report);
}

function serve(): void {
  const nodes = new Nodes();
  process.on('message', (order: Order) => {
    void nodes.carryOut(order).then((returned) => {
      if (order.kind !== 'make') tell({ kind: 'done', ...returned });
    });
  });
}

if (process.argv[2] === 'nodes') serve();
