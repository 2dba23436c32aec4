/** Parts go away and come back: the key server, the agent, containerd, the whole machine. */
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ContainerState } from '#src/wire/generated/cri/runtime.ts';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, refusalOf, until } from './gated-site.ts';

/** Short enough to wait for, long enough for several starts on a loaded machine. */
const LEASE_MS = 15_000;
const COMMAND = ['/bin/busybox', 'cat', '/app/one.txt'];

describeOnEachContainerd('the key server away', (containerd) => {
  let gated: GatedSite;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    await gated.activate({ leaseDurationMs: LEASE_MS });
    await gated.site.cri.pullImage(gated.image);
  });
  afterAll(async () => {
    await gated.stop();
  });

  test('starts go on inside the lease', async () => {
    await gated.site.keyServer.kill();
    const pod = await gated.site.cri.runPod('inside', gated.image);
    await gated.site.cri.removePod(pod.sandboxId);
  });

  test('after it they fail and say why', async () => {
    await until(async () => (await gated.agent.status()).leases.every(({ state }) => state !== 'VALID'));
    const refusal = await refusalOf(gated.site.cri.runPod('after', gated.image));
    expect(refusal).toContain('DENIED_LEASE_EXPIRED');
    expect(refusal).toContain('lease expired (key server unreachable)');
  });

  test('when it is back they work again, and leases are renewed', async () => {
    await gated.site.restartKeyServer();
    await until(async () => (await gated.agent.status()).keyServerConnected);
    const pod = await gated.site.cri.runPod('back', gated.image);
    const [before] = (await gated.agent.status()).leases;
    await until(
      async () => ((await gated.agent.status()).leases[0]?.expiresAtMs ?? 0) > (before?.expiresAtMs ?? 0),
    );
    await gated.site.cri.removePod(pod.sandboxId);
  });
});

describeOnEachContainerd('the node in trouble', (containerd) => {
  let gated: GatedSite;
  let pod: { sandboxId: string; containerId: string };

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    await gated.activate();
    await gated.site.cri.pullImage(gated.image);
    pod = await gated.site.cri.runPod('survivor', gated.image);
  });
  afterAll(async () => {
    await gated.stop();
  });

  /** containerd dials an agent that is back after a moment. Gives the container's id. */
  async function untilStarted(name: string): Promise<string> {
    for (let attempt = 0; ; attempt += 1) {
      const { cri } = gated.site;
      const id = await cri
        .createContainer(pod.sandboxId, name, gated.image, [], attempt)
        .catch(() => undefined);
      if (id === undefined) continue;
      await cri.startContainer(id);
      return id;
    }
  }

  /** A start is told whom containerd has looked for, and so is the pull that a kubelet does first. */
  async function expectNobodyThere(name: string): Promise<void> {
    const run = ['run', '--rm', '--snapshotter', 'latchkey', gated.image, name];
    const { output } = await gated.site.containerd.ctr(run, 'k8s.io');
    expect(output).toContain(gated.site.agent.paths.snapshotterSocket);
    for (const call of [
      () => gated.site.cri.runPod(name, gated.image),
      () => gated.site.cri.pullImage(gated.image),
    ])
      expect(await refusalOf(call())).toContain(gated.site.agent.paths.snapshotterSocket);
  }

  test('an agent that was killed: running containers go on, new starts fail', async () => {
    await gated.site.agent.kill();
    expect((await gated.site.cri.execSync(pod.containerId, COMMAND)).output).toContain(SECRET);
    await refusalOf(gated.site.cri.createContainer(pod.sandboxId, 'without-agent', gated.image));
  });

  test('and a containerd that was killed beside it: they still go on and are entered, and a start says what is away', async () => {
    await gated.site.containerd.kill();
    await gated.site.containerd.start();
    expect(await gated.site.cri.containerState(pod.containerId)).toBe(ContainerState.CONTAINER_RUNNING);
    expect((await gated.site.cri.execSync(pod.containerId, COMMAND)).output).toContain(SECRET);
    await expectNobodyThere('both-killed');
  });

  test('back again, it goes on where it was', async () => {
    await gated.site.agent.start();
    const again = await untilStarted('retry');
    expect((await gated.site.cri.execSync(again, COMMAND)).output).toContain(SECRET);
    expect((await gated.site.cri.execSync(pod.containerId, COMMAND)).output).toContain(SECRET);
  });

  test('a second agent on the same sockets is refused', async () => {
    await expect(gated.site.agent.start()).rejects.toThrow(/did not start/);
    expect(await gated.site.agent.log()).toContain('another agent is running');
  });

  test('a second agent on the same state is refused whatever its sockets, and the node is not taken for a copy', async () => {
    const { agent } = gated.site;
    const elsewhere = join(gated.site.directory, 'a', 'elsewhere');
    await expect(agent.start({ runtime_directory: elsewhere })).rejects.toThrow(/did not start/);
    expect(await agent.log()).toContain(`another agent is running on ${agent.stateDirectory}`);
    const again = await gated.site.cri.runPod('after-second', gated.image);
    await gated.site.cri.removePod(again.sandboxId);
  });

  test('after a reboot a containerd that is up before the agent’s sockets are says what it misses', async () => {
    await gated.site.cri.removePod(pod.sandboxId);
    await gated.site.containerd.stop();
    await gated.site.agent.kill();
    await gated.site.agent.forgetMemory();
    await rm(dirname(gated.site.agent.paths.snapshotterSocket), { recursive: true });
    await gated.site.keyServer.kill();
    await gated.site.containerd.start();
    await expectNobodyThere('before-agent');
  });

  test('once the agent is up nothing starts before there is a lease, and then nothing is pulled or restarted', async () => {
    await gated.site.registry.stop();
    await gated.site.agent.start();
    let refusal = '';
    await until(async () => {
      refusal = await refusalOf(gated.site.cri.runPod('rebooted', gated.image));
      // containerd dials again, and CRI takes the images up again, after a moment.
      return refusal.includes('DENIED_LEASE_EXPIRED');
    });
    expect(refusal).toContain('key server unreachable');
    await gated.site.restartKeyServer();
    await until(async () => (await gated.agent.status()).keyServerConnected);
    const again = await gated.site.cri.runPod('rebooted-2', gated.image);
    expect((await gated.site.cri.execSync(again.containerId, COMMAND)).output).toContain(SECRET);
    await gated.site.cri.removePod(again.sandboxId);
  });

  test('an image that was removed while its container is kept starts from its kept layers', async () => {
    const kept = await gated.site.cri.runPod('kept', gated.image);
    await gated.site.cri.stopContainer(kept.containerId);
    await gated.site.cri.removeImage(gated.image);
    // CRI removes an image together with what only it refers to: its manifest is gone, its layers are not.
    const { output: content } = await gated.site.containerd.ctr(['content', 'list', '--quiet'], 'k8s.io');
    expect(content).not.toContain(gated.release.imageDigest);
    const layers = (await gated.agent.status()).gatedLayers.map(({ layerDigest }) => layerDigest);
    for (const digest of layers) expect(content).toContain(digest);
    await gated.agent.dropPlaintext();
    expect((await gated.agent.status()).gatedLayers.some(({ plaintextPresent }) => plaintextPresent)).toBe(
      false,
    );
    const { output } = await gated.site.containerd.ctr(
      ['tasks', 'start', '--detach', kept.containerId],
      'k8s.io',
    );
    expect(output).toBe('');
    const files = await filesContaining([gated.site.agent.paths.memoryDirectory], SECRET);
    expect(files.length).toBeGreaterThan(0);
  });
});
