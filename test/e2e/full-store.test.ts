/** The plaintext store fills up while it is in use: who fills it is told, everybody else goes on, and room is room again. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { layerFromFiles } from '../../lab/layer-archive.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, refusalOf, releaseSecretImage } from './gated-site.ts';

const MEBIBYTE = 1024 * 1024;

describeOnEachContainerd('a plaintext store that is filled', (containerd) => {
  let gated: GatedSite;
  let large: string;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd, agentSettings: { plaintext_capacity: '8m' } });
    await gated.activate();
    const noise = { path: 'app/noise.bin', content: randomBytes(3 * MEBIBYTE).toString('latin1') };
    await releaseSecretImage(gated.site, 'large', [layerFromFiles([noise])]);
    large = gated.site.reference('large');
    await gated.site.cri.pullImage(gated.image);
    await gated.site.cri.pullImage(large);
    await gated.site.cri.pullImage(gated.site.reference('plain'));
  });
  afterAll(async () => {
    await gated.stop();
  });

  function shell(containerId: string, script: string): Promise<{ exitCode: number; output: string }> {
    return gated.site.cri.execSync(containerId, ['/bin/sh', '-c', script]);
  }

  test('by a container: its write fails, others start, and a layer that has no room is refused in words', async () => {
    const pod = await gated.site.cri.runPod('filler', gated.image);
    await gated.agent.dropPlaintext();
    const filled = await shell(pod.containerId, '/bin/busybox dd if=/dev/zero of=/fill bs=64k');
    expect(filled.exitCode).not.toBe(0);
    expect(filled.output).toContain('No space left on device');
    // Its layers are there, and nothing of it has to be made.
    expect((await shell(pod.containerId, '/bin/busybox cat /app/one.txt')).exitCode).toBe(0);
    expect(await refusalOf(gated.site.cri.runPod('no-room', large))).toContain('STORAGE_FULL');
    const plain = await gated.site.cri.runPod('plain', gated.site.reference('plain'));
    await gated.site.cri.removePod(plain.sandboxId);
    await shell(pod.containerId, '/bin/busybox rm /fill');
    const again = await gated.site.cri.runPod('room', large);
    await gated.site.cri.removePod(again.sandboxId);
    await gated.site.cri.removePod(pod.sandboxId);
  });

  test('by an unpacking that has no end in sight: it fails, and what is there stays', async () => {
    const pod = await gated.site.cri.runPod('stays', gated.image);
    const zeros = layerFromFiles([{ path: 'zeros.bin', content: '0'.repeat(32 * MEBIBYTE) }]);
    await releaseSecretImage(gated.site, 'bomb', [zeros]);
    await refusalOf(gated.site.cri.pullImage(gated.site.reference('bomb')));
    expect((await shell(pod.containerId, '/bin/busybox cat /app/one.txt')).exitCode).toBe(0);
    await gated.site.cri.removePod(pod.sandboxId);
    const next = await gated.site.cri.runPod('next', gated.image);
    await gated.site.cri.removePod(next.sandboxId);
  });
});
