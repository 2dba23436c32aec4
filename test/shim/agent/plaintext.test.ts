/** When the files of gated layers go although nobody asks for it, on a clock that the test moves. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ContainerdConnection } from '../../../shim/containerd/connection.ts';
import type { GatedWorkload } from '../../../shim/agent/gated-workloads.ts';
import { PlaintextDropper, STARTING_MS } from '../../../shim/agent/plaintext.ts';
import type { Standing } from '../../../shim/agent/standing.ts';
import { fakeLayer } from '../../fakes/scripted-gate.ts';
import { SnapshotterSite } from '../../fakes/snapshotter-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const IDLE_MS = 600_000;

let site: SnapshotterSite;
let containerd: ContainerdConnection;
let dropper: PlaintextDropper;
let standing: Standing;

beforeEach(async () => {
  site = await SnapshotterSite.open(directory());
  containerd = new ContainerdConnection('/nowhere/containerd.sock');
  standing = 'licensed';
  dropper = new PlaintextDropper({
    ...{ containerd, snapshotter: site.snapshotter, keeper: site.keeper, clock: site.clock },
    standings: { ofChain: () => standing },
    mountedSnapshots: () => Promise.resolve(new Set()),
    idleDropAfterMs: IDLE_MS,
  });
});
afterEach(() => {
  containerd.close();
  site.close();
});

/** An encrypted image that has just been started, and the container on it. */
async function startedImage(): Promise<{ layer: string; container: string }> {
  const layer = await site.unpack(fakeLayer('app', 'encrypted'));
  const container = site.key('container');
  await site.snapshotter.prepare({ key: container, parent: layer, labels: {} });
  await site.snapshotter.mounts(container);
  return { layer, container };
}

/** As containerd would tell of a running container. */
function running(container: string): GatedWorkload[] {
  const snapshot = site.snapshotter.stat(container);
  const chain = [snapshot, ...site.snapshotter.parentChain(snapshot.parent ?? '')];
  const workload: GatedWorkload['workload'] = {
    ...{ namespace: 'k8s.io', containerId: 'c', snapshotKey: 'container', snapshotter: 'latchkey' },
    ...{ image: 'acme', labels: {}, createdAtMs: 0, state: 'running' },
  };
  return [{ workload, chain }];
}

function isPresent(key: string): boolean {
  return site.keeper.isPresent(site.snapshotter.stat(key));
}

/** What a sweep leaves, so long after the start. */
async function leftAfter(key: string, durationMs: number): Promise<boolean> {
  site.clock.advance(durationMs);
  await dropper.sweep([]);
  return isPresent(key);
}

describe('a layer that nothing uses', () => {
  test('with a good license goes after the idle time, and not a moment before', async () => {
    const { layer, container } = await startedImage();
    expect(await leftAfter(layer, IDLE_MS - 1)).toBe(true);
    expect(await leftAfter(layer, 1)).toBe(false);
    // What the container has written cannot be made again.
    expect(isPresent(container)).toBe(true);
  });

  test('whose lease has ended goes once a start must be over', async () => {
    const { layer } = await startedImage();
    standing = 'no-lease';
    expect(await leftAfter(layer, STARTING_MS - 1)).toBe(true);
    expect(await leftAfter(layer, 1)).toBe(false);
  });

  test('is counted anew from each start', async () => {
    const { layer, container } = await startedImage();
    site.clock.advance(IDLE_MS - 1);
    await site.snapshotter.mounts(container);
    expect(await leftAfter(layer, IDLE_MS - 1)).toBe(true);
    expect(await leftAfter(layer, 1)).toBe(false);
  });

  test('and was only unpacked, a long time after the agent started, is counted from then', async () => {
    site.clock.advance(2 * IDLE_MS);
    const layer = await site.unpack(fakeLayer('app', 'encrypted'));
    expect(await leftAfter(layer, IDLE_MS - 1)).toBe(true);
    expect(await leftAfter(layer, 1)).toBe(false);
  });

  test('goes at once when the image is denied', async () => {
    const { layer, container } = await startedImage();
    standing = 'denied';
    expect(await leftAfter(layer, 0)).toBe(false);
    expect(isPresent(container)).toBe(true);
  });

  test('goes at once with what was written on it when the license is refused', async () => {
    const { layer, container } = await startedImage();
    standing = 'refused';
    expect(await leftAfter(layer, 0)).toBe(false);
    expect(isPresent(container)).toBe(false);
  });
});

test.each(['licensed', 'no-lease', 'denied', 'refused'] as const)(
  'under a running container nothing goes, however long it runs: %s',
  async (its) => {
    const { layer, container } = await startedImage();
    standing = its;
    site.clock.advance(10 * IDLE_MS);
    expect(await dropper.sweep(running(container))).toEqual({ dropped: 0, kept: 2 });
    expect(isPresent(layer)).toBe(true);
  },
);
