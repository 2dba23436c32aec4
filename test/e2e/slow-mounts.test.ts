/** Layers are made in Mounts, because containerd holds no lock over that: one start that takes long delays no other. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SnapshotterProxy } from '../../lab/snapshotter-proxy.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite } from './gated-site.ts';

describeOnEachContainerd('a Mounts that does not answer', (containerd) => {
  let gated: GatedSite;
  let proxy: SnapshotterProxy;

  beforeAll(async () => {
    gated = await GatedSite.start({
      containerd,
      snapshotterProxy: async (agentSocket, proxySocket) => {
        proxy = await SnapshotterProxy.start(proxySocket, agentSocket);
      },
    });
    await gated.activate();
    await gated.site.cri.pullImage(gated.image);
    await gated.site.cri.pullImage(gated.site.reference('plain'));
  });
  afterAll(async () => {
    await gated.stop();
    proxy.close();
  });

  test('lets a collection of garbage, other starts and removals pass', async () => {
    const sandboxId = await gated.site.cri.runPodSandbox('held');
    let release = (): void => undefined;
    const held = new Promise<boolean>((resolve) => {
      release = () => {
        resolve(false);
      };
    });
    const reached = new Promise<void>((resolve) => {
      let isFirst = true;
      proxy.hook = ({ method }, moment) => {
        if (method !== 'mounts' || moment !== 'arrived' || !isFirst) return Promise.resolve(false);
        isFirst = false;
        resolve();
        return held;
      };
    });
    const slow = gated.site.cri.createContainer(sandboxId, 'held', gated.image);
    await reached;
    // All of this ends while the other waits, or never.
    await gated.site.containerd.collectGarbage();
    for (const image of [gated.image, gated.site.reference('plain')]) {
      const pod = await gated.site.cri.runPod('others', image);
      await gated.site.cri.removePod(pod.sandboxId);
    }
    const dirty = await gated.ctr('snapshots', '--snapshotter', 'latchkey', 'prepare', 'dirty');
    expect(dirty).toMatchObject({ status: 0 });
    expect((await gated.ctr('snapshots', '--snapshotter', 'latchkey', 'remove', 'dirty')).status).toBe(0);
    await gated.site.containerd.collectGarbage();
    release();
    await gated.site.cri.startContainer(await slow);
    await gated.site.cri.removePod(sandboxId);
  });
});
