/** Parts go away and come back: the key server, the agent, containerd, the whole machine. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
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

  test('an agent that was killed: running containers go on, new starts fail', async () => {
    await gated.site.agent.kill();
    expect((await gated.site.cri.execSync(pod.containerId, COMMAND)).output).toContain(SECRET);
    await refusalOf(gated.site.cri.createContainer(pod.sandboxId, 'without-agent', gated.image));
  });

  test('back again, it goes on where it was', async () => {
    await gated.site.agent.start();
    await until(async () => {
      const again = await gated.site.cri
        .createContainer(pod.sandboxId, `retry-${Date.now()}`, gated.image)
        .catch(() => undefined);
      if (again !== undefined) await gated.site.cri.startContainer(again);
      return again !== undefined;
    });
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

  test('after a reboot nothing starts before there is a lease, and then nothing is pulled', async () => {
    await gated.site.cri.removePod(pod.sandboxId);
    await gated.site.containerd.stop();
    await gated.site.agent.kill();
    await gated.site.agent.forgetMemory();
    await gated.site.keyServer.kill();
    await gated.site.registry.stop();
    await gated.site.agent.start();
    await gated.site.containerd.start();
    const refusal = await refusalOf(gated.site.cri.runPod('rebooted', gated.image));
    expect(refusal).toContain('DENIED_LEASE_EXPIRED');
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
