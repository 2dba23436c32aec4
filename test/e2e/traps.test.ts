/** The six traps that a gate on containerd can fall into, each by its name, on each containerd. */
import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { filesContaining } from '../../lab/site.ts';
import { layerDigests } from '../fakes/layout-layers.ts';
import { storeSkipReason } from '../fakes/store-skip-reason.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, refusalOf, releaseSecretImage, secretLayer, until } from './gated-site.ts';

const NOBODY = 65_534;

describeOnEachContainerd('the traps', (containerd) => {
  let gated: GatedSite;
  let licenseId: string;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    licenseId = (await gated.activate()).license.id;
  });
  afterAll(async () => {
    await gated.stop();
  });

  test('trap 1: what shares layers with another image is unpacked, restored and gated on its own account', async () => {
    // (c) the plain build first, so that its chain would be there if the encrypted layers had the same.
    await releaseSecretImage(gated.site, 'twin', [secretLayer('twin')]);
    await gated.site.push('twin-plain', '1');
    const [image, plain] = [gated.site.reference('twin'), gated.site.reference('twin-plain')];
    await gated.site.cri.pullImage(plain);
    await gated.site.cri.pullImage(image);
    await gated.agent.dropPlaintext();
    const pod = await gated.site.cri.runPod('twin', image);
    const { output } = await gated.site.cri.execSync(pod.containerId, [
      '/bin/busybox',
      'cat',
      '/app/twin.txt',
    ]);
    expect(output).toContain(SECRET);
    await gated.site.cri.removePod(pod.sandboxId);
    // The plain build is on the disk by its owner's own will; it is no part of what follows.
    await gated.site.cri.removeImage(plain);
  });

  test('trap 2: an encrypted blob outlives its image for as long as a container may need it', async () => {
    await releaseSecretImage(gated.site, 'collected', [secretLayer('collected')]);
    const image = gated.site.reference('collected');
    await gated.site.cri.pullImage(image);
    const pod = await gated.site.cri.runPod('collected', image);
    await gated.site.cri.stopContainer(pod.containerId);
    await gated.site.cri.removeImage(image);
    await gated.site.containerd.ctr(['content', 'prune', 'references'], 'k8s.io');
    await gated.agent.dropPlaintext();
    const args = ['tasks', 'start', '--detach', pod.containerId];
    expect((await gated.site.containerd.ctr(args, 'k8s.io')).output).toBe('');
    // CRI knows nothing of what ctr has started.
    await gated.site.containerd.ctr(['tasks', 'delete', '--force', pod.containerId], 'k8s.io');
    await gated.site.cri.removePod(pod.sandboxId);
    // And no longer: the layer goes with its last user, and its blob with it.
    const [, layer = ''] = await layerDigests(gated.site.layout('collected'));
    expect(layer).toMatch(/^sha256:/u);
    await until(async () => {
      await gated.site.containerd.ctr(['content', 'prune', 'references'], 'k8s.io');
      return !(await gated.site.containerd.ctr(['content', 'list', '--quiet'], 'k8s.io')).output.includes(
        layer,
      );
    });
  });

  test('trap 3: what a container changes of a secret file is not copied up to the disk', async () => {
    await gated.site.cri.pullImage(gated.image);
    const pod = await gated.site.cri.runPod('copy-up', gated.image);
    await gated.site.cri.execSync(pod.containerId, ['/bin/sh', '-c', 'echo more >> /app/one.txt']);
    const { gatedLayers } = await gated.agent.status();
    expect(gatedLayers.length).toBeGreaterThan(0);
    expect(await filesContaining([gated.site.agent.stateDirectory], SECRET)).toEqual([]);
    expect(await filesContaining([gated.site.agent.paths.memoryDirectory], 'more')).not.toEqual([]);
    await gated.site.cri.removePod(pod.sandboxId);
  });

  test('trap 5: sockets are out of reach of other users, whatever the umask', async () => {
    const { paths } = gated.site.agent;
    expect((await stat(paths.runtimeDirectory)).mode & 0o777).toBe(0o700);
    const connect = `require('node:net').connect(process.argv[1])
      .on('error', ({ code }) => console.log(code)).on('connect', () => process.exit())`;
    for (const socket of [paths.agentSocket, paths.snapshotterSocket, paths.processorSocket]) {
      const options = { uid: NOBODY, gid: NOBODY };
      const { stdout } = await promisify(execFile)('/usr/bin/env', ['node', '-e', connect, socket], options);
      expect(stdout).toBe('EACCES\n');
    }
  });

  test('trap 6: the plaintext store is mounted where containerd and its shims see it', async () => {
    const { memoryDirectory } = gated.site.agent.paths;
    const lines = (await readFile(`/proc/${gated.site.containerd.processId}/mounts`, 'utf8')).split('\n');
    expect(lines.filter((line) => line.split(' ')[1] === memoryDirectory)).toHaveLength(1);
  });

  test('trap 1: the base of an encrypted image and the sandbox stay free after a revocation', async () => {
    await gated.site.cri.pullImage(gated.image);
    await gated.site.api.changeLicense(licenseId, 'revoke');
    await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
    const plain = gated.site.reference('plain');
    await gated.site.cri.pullImage(plain);
    await gated.site.cri.removePod((await gated.site.cri.runPod('plain', plain)).sandboxId);
    expect(await refusalOf(gated.site.cri.runPod('gated', gated.image))).toContain('DENIED_LICENSE_REVOKED');
  });
});

describeOnEachContainerd('the trap of programs that open their input anew', (containerd) => {
  const skipReason = storeSkipReason('encrypted-volume');

  test.skipIf(skipReason !== undefined)(
    `trap 4: the key of an encrypted volume reaches the program that needs it${skipReason === undefined ? '' : `: ${skipReason}`}`,
    async () => {
      const gated = await GatedSite.start({
        containerd,
        agentSettings: { plaintext_store: 'encrypted-volume', volume_capacity: '64m' },
      });
      try {
        await gated.activate();
        await gated.site.cri.pullImage(gated.image);
        const pod = await gated.site.cri.runPod('volume', gated.image);
        await gated.site.cri.removePod(pod.sandboxId);
        const { memoryDirectory } = gated.site.agent.paths;
        expect(await filesContaining([memoryDirectory], SECRET, 'mounts')).not.toEqual([]);
      } finally {
        await gated.stop();
      }
    },
  );
});
