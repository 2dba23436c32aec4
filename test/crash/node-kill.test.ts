/**
 * The agent and containerd killed at every step of unpacking, starting, restoring, viewing and removing. A cycle goes
 * through all five; in each something is killed at one point. What was begun is tried again, as a kubelet does.
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { layerFromFiles } from '../../lab/layer-archive.ts';
import { CALL_MOMENTS, type SnapshotMethod } from '../../lab/snapshotter-proxy.ts';
import { describeOnEachContainerd } from '../e2e/each-containerd.ts';
import { SECRET, releaseSecretImage, until } from '../e2e/gated-site.ts';
import { FragileNode } from './fragile-node.ts';
import { type KillMoment, type KillPoint, describePoint, points, shuffled } from './kill-point.ts';
import { NodeInvariants } from './node-invariants.ts';

const STREAM_BYTES = 8 * 1024 * 1024;
const ATTEMPTS = 200;
const IMAGE = 'fragile';
const KEEP_BLOB_LABEL = 'containerd.io/gc.ref.content.latchkey';

const SEED = Number(process.env['LATCHKEY_SEED'] ?? randomBytes(4).readUInt32LE());

function each(method: SnapshotMethod, after?: number): KillMoment[] {
  return CALL_MOMENTS.map((moment) => ({ method, moment, ...(after === undefined ? {} : { after }) }));
}

const PHASES = ['pull', 'start', 'restore', 'view', 'remove'] as const;
type Phase = (typeof PHASES)[number];

const POINTS: Readonly<Record<Phase, readonly KillPoint[]>> = {
  // The first Prepare and Commit are of the plain base, the second of an encrypted layer.
  pull: points([
    { method: 'prepare', moment: 'answered' },
    { method: 'commit', moment: 'answered' },
    ...[...each('prepare', 1), ...each('commit', 1), ...each('update')],
    ...[{ stream: 'begun' } as const, { stream: 'half-way' } as const],
  ]),
  start: points([...each('prepare'), ...each('mounts'), { method: 'mounts', moment: 'delivered', after: 1 }]),
  restore: points([{ stream: 'begun' }, { stream: 'half-way' }, ...each('mounts')]),
  view: points(each('view')),
  remove: points([...each('remove', 0), ...each('remove', 2), ...each('cleanup'), ...each('list')]),
};

const CYCLES = Math.max(...Object.values(POINTS).map(({ length }) => length));

describeOnEachContainerd('a node whose parts are killed', (containerd) => {
  let node: FragileNode;
  let invariants: NodeInvariants;
  let names = 0;
  const orders = Object.fromEntries(PHASES.map((phase) => [phase, shuffled(POINTS[phase], SEED)])) as Record<
    Phase,
    KillPoint[]
  >;

  beforeAll(async () => {
    node = await FragileNode.start(containerd);
    invariants = new NodeInvariants(node.gated);
    await node.gated.activate();
    const large = { path: 'app/large.bin', content: SECRET + randomBytes(STREAM_BYTES).toString('latin1') };
    await releaseSecretImage(node.gated.site, IMAGE, [
      layerFromFiles([large]),
      layerFromFiles([{ path: 'app/one.txt', content: `${SECRET} one\n`.repeat(200) }]),
    ]);
  });
  afterAll(async () => {
    await node.stop();
  });

  /** A name for a container or a snapshot; one of an attempt that was cut short may still be taken. */
  function freshName(): string {
    names += 1;
    return `attempt-${names}`;
  }

  async function mustSucceed(...args: string[]): Promise<string> {
    const { status, output } = await node.gated.ctr(...args);
    if (status !== 0) throw new Error(`ctr ${args.join(' ')}: ${output}`);
    return output;
  }

  async function pull(): Promise<void> {
    const image = node.gated.site.reference(IMAGE);
    const { status, output } = await node.gated.pullWithCtr('latchkey', image);
    if (status !== 0) throw new Error(output);
    // Without its label a layer's blob could be collected while the layer is needed.
    await until(async () => {
      const { gatedLayers } = await node.gated.agent.status();
      const infos = await Promise.all(
        gatedLayers.map(({ chainId }) =>
          node.gated.ctr('snapshots', '--snapshotter', 'latchkey', 'info', chainId),
        ),
      );
      return infos.every(({ output: info }) => info.includes(KEEP_BLOB_LABEL));
    });
  }

  async function start(): Promise<void> {
    const { output } = await node.gated.runWithCtr(freshName(), 'latchkey', node.gated.site.reference(IMAGE));
    if (!output.includes(`${SECRET} one`)) throw new Error(output);
  }

  async function view(): Promise<void> {
    const list = await mustSucceed('snapshots', '--snapshotter', 'latchkey', 'list');
    const top = node.gated.topChainId(list.split('\n').filter((line) => line.includes('Committed')));
    await mustSucceed('snapshots', '--snapshotter', 'latchkey', 'view', freshName(), top);
  }

  async function remove(): Promise<void> {
    const { gated } = node;
    await gated.site.containerd.removeAllContainers();
    const lines = (await mustSucceed('snapshots', '--snapshotter', 'latchkey', 'list')).split('\n');
    const names = lines
      .map((line) => line.split(/\s+/)[0] ?? '')
      .filter((name) => name.startsWith('attempt-'));
    // What a container stood on may be collected at the same time.
    for (const name of names) await gated.ctr('snapshots', '--snapshotter', 'latchkey', 'remove', name);
    for (const lease of (await mustSucceed('leases', 'list', '--quiet')).split('\n').filter(Boolean))
      await mustSucceed('leases', 'delete', lease);
    for (const image of (await mustSucceed('images', 'list', '--quiet')).split('\n').filter(Boolean))
      await mustSucceed('images', 'remove', '--sync', image);
    await collectGarbage();
  }

  /**
   * Deleting a lease collects at once. After a restart containerd looks for what a snapshotter has too many of only once
   * something of that snapshotter has been removed.
   */
  async function collectGarbage(): Promise<void> {
    const name = freshName();
    await mustSucceed('snapshots', '--snapshotter', 'latchkey', 'prepare', name);
    await mustSucceed('snapshots', '--snapshotter', 'latchkey', 'remove', name);
    const lease = (await mustSucceed('leases', 'create')).trim();
    await mustSucceed('leases', 'delete', '--sync', lease);
  }

  const actions: Readonly<Record<Phase, () => Promise<void>>> = { pull, start, restore: start, view, remove };

  async function retried(action: () => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await action();
        return;
      } catch (error) {
        if (attempt === ATTEMPTS) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  async function runPhase(phase: Phase, point: KillPoint): Promise<void> {
    const what = `seed ${SEED}, ${phase}: ${describePoint(point)}`;
    let first: unknown;
    for (let isReached = false; !isReached;) {
      if (phase === 'restore') await node.gated.agent.dropPlaintext();
      node.arm(point, STREAM_BYTES);
      first = await actions[phase]().then(
        () => undefined,
        (error: unknown) => error,
      );
      isReached = await node.recovered();
      // On a busy machine a layer can be through before it was seen to stream: then once more from where it began.
      const isMissed = !isReached && 'stream' in point.at && first === undefined;
      if (!isMissed) expect(isReached, `${what} is reached; ${String(first)}`).toBe(true);
      else if (phase === 'pull') await retried(remove);
    }
    try {
      await retried(() => invariants.check());
      if (first !== undefined || phase === 'remove') await retried(actions[phase]);
      if (phase === 'remove') await invariants.checkEmpty();
      if (phase !== 'pull') return;
      await invariants.check();
      await retried(collectGarbage);
      await invariants.checkAgreement();
    } catch (error) {
      throw new Error(`after ${what}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
  }

  const cycles = Array.from({ length: CYCLES }, (_, index) => index);
  test.each(cycles)(`goes on, cycle %i of ${CYCLES} with seed ${SEED}`, async (cycle) => {
    for (const phase of PHASES) {
      const order = orders[phase];
      // What has had all of its points is left out, but for what makes a cycle.
      const isNeeded = phase === 'pull' || phase === 'remove';
      const point = order[isNeeded ? cycle % order.length : cycle];
      if (point !== undefined) await runPhase(phase, point);
    }
  });
});
