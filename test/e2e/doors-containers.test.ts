/**
 * What can be reached from beside a running container, or by way of what was made from one: with a license, and after its
 * revocation. What works with a license is only for root or for who may create pods, and the threat model names it.
 */
import { execFile } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { layerFromFiles } from '../../lab/layer-archive.ts';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { pushForged } from './forged-image.ts';
import { CONTACT, GatedSite, SECRET, refusalOf, until } from './gated-site.ts';

const run = promisify(execFile);

describeOnEachContainerd('doors beside a container', (containerd) => {
  let gated: GatedSite;
  let licenseId: string;
  let pod: { sandboxId: string; containerId: string };
  let debugId: string;
  let mountPoint: string;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    licenseId = (await gated.activate()).license.id;
    for (const image of [gated.image, gated.site.reference('plain')]) {
      await gated.site.cri.pullImage(image);
      await gated.pullWithCtr('latchkey', image);
    }
    pod = await gated.site.cri.runPod('watched', gated.image, [
      ...['/bin/sh', '-c', 'echo more >> /app/two.txt; busybox sleep 3600'],
    ]);
    debugId = await gated.site.cri.createContainer(pod.sandboxId, 'debug', gated.site.reference('plain'));
    await gated.site.cri.startContainer(debugId);
    mountPoint = join(gated.site.directory, 'mnt');
    await mkdir(mountPoint);
  });
  afterAll(async () => {
    await gated.stop();
  });

  const runDetached = (id: string, image = gated.image) =>
    gated.ctr(
      ...['run', '--detach', '--net-host', '--snapshotter', 'latchkey', image, id],
      ...['/bin/busybox', 'sleep', '3600'],
    );
  const execIn = (id: string) => gated.printInContainer(id, '/app/one.txt');
  const snapshots = (...args: string[]) => gated.ctr('snapshots', '--snapshotter', 'latchkey', ...args);

  /** Mounts the image's files as root does it, with the commands that ctr gives for that. */
  async function mountImage(key: string): Promise<{ status: number; output: string }> {
    const committed = (await snapshots('list')).output
      .split('\n')
      .filter((line) => line.includes('Committed'));
    const view = await snapshots('view', key, gated.topChainId(committed));
    if (view.status !== 0) return view;
    const { status, output } = await snapshots('mounts', mountPoint, key);
    // A collection that was under way has taken it again.
    if (status !== 0) return mountImage(key);
    await run('/bin/sh', ['-c', output]);
    return view;
  }

  /** What a debug container in the pod reads of the files of its neighbours, over /proc. */
  async function readNeighbours(): Promise<string> {
    const script = 'for p in /proc/[0-9]*; do busybox cat $p/root/app/one.txt 2>/dev/null; done; true';
    return (await gated.site.cri.execSync(debugId, ['/bin/sh', '-c', script])).output;
  }

  function expectRefusal({ status, output }: { status: number; output: string }, code: string): void {
    expect(output).toContain(code);
    expect(output).toContain(licenseId);
    expect(output).toContain(CONTACT);
    expect(output).not.toContain(SECRET);
    expect(status).not.toBe(0);
  }

  describe('with a license', () => {
    test('root mounts the image, and nothing is left when it is unmounted', async () => {
      expect(await mountImage('by-root')).toMatchObject({ status: 0 });
      expect(await readFile(join(mountPoint, 'app/one.txt'), 'utf8')).toContain(SECRET);
      await run('umount', [mountPoint]);
      await snapshots('remove', 'by-root');
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
    });

    test('an image that somebody has built on top of the released one does not start', async () => {
      const extra = await layerFromFiles([{ path: 'extra.txt', content: 'on top' }]);
      const descriptor = {
        mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
        digest: extra.digest,
        size: extra.bytes.length,
      };
      await pushForged(gated.site, 'acme', 'on-top', ({ layers, config }) => ({
        layers: [...layers, descriptor],
        config: {
          ...config,
          rootfs: { type: 'layers', diff_ids: [...config.rootfs.diff_ids, extra.diffId] },
          history: [...config.history, {}],
        },
        blobs: [extra.bytes],
      }));
      const image = gated.site.reference('on-top');
      await gated.site.cri.pullImage(image);
      const refusal = await refusalOf(gated.site.cri.runPod('on-top', image));
      expectRefusal({ status: 1, output: refusal }, 'DENIED_IMAGE_ALTERED');
      await gated.pullWithCtr('latchkey', image);
      expectRefusal(await gated.runWithCtr('on-top', 'latchkey', image), 'DENIED_IMAGE_ALTERED');
    });

    test('a container in the same pod reads the files while they run, as on any node', async () => {
      expect(await readNeighbours()).toContain(`${SECRET} one`);
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
    });

    test('what will be tried again after the revocation works', async () => {
      for (const id of ['kept', 'paused', 'stopped']) {
        expect(await runDetached(id)).toMatchObject({ status: 0 });
      }
      expect((await execIn('kept')).output).toContain(SECRET);
      expect((await gated.ctr('tasks', 'pause', 'paused')).status).toBe(0);
      await gated.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'stopped');
      await until(async () => (await gated.ctr('tasks', 'delete', 'stopped')).status === 0);
      const checkpoint = ['containers', 'checkpoint', '--rw', '--image', 'kept', 'checkpoint/kept:1'];
      expect(await gated.ctr(...checkpoint)).toMatchObject({ status: 0 });
    });
  });

  describe('after the revocation, for a license that lets run what runs', () => {
    beforeAll(async () => {
      await gated.site.api.changeLicense(licenseId, 'revoke');
      await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
    });

    test('exec, and a container that was paused, go on', async () => {
      expect((await execIn('kept')).output).toContain(SECRET);
      expect((await gated.ctr('tasks', 'resume', 'paused')).status).toBe(0);
      expect((await execIn('paused')).output).toContain(SECRET);
    });

    test('a stopped container does not start again', async () => {
      expectRefusal(await gated.ctr('tasks', 'start', '--detach', 'stopped'), 'DENIED_LICENSE_REVOKED');
    });

    test('a checkpoint is not restored', async () => {
      const restore = ['containers', 'restore', '--rw', 'restored', 'checkpoint/kept:1'];
      expectRefusal(await gated.ctr(...restore), 'DENIED_LICENSE_REVOKED');
    });

    test('the image is not mounted', async () => {
      expectRefusal(await mountImage('by-root-again'), 'DENIED_LICENSE_REVOKED');
      const mounted = await gated.ctr('images', 'mount', gated.image, mountPoint);
      expect(mounted.status).not.toBe(0);
      expect(mounted.output).toContain('DENIED_');
    });

    test('what was pulled anew is not unpacked', async () => {
      await gated.ctr('images', 'remove', '--sync', gated.image);
      const pulled = await gated.pullWithCtr();
      // Its layers are still there while containers stand on them; then only the start is refused.
      expectRefusal(pulled.status === 0 ? await gated.runWithCtr('anew') : pulled, 'DENIED_LICENSE_REVOKED');
    });

    test('once they have ended, a neighbour reads nothing and nothing is left', async () => {
      for (const id of ['kept', 'paused']) await gated.ctr('tasks', 'kill', '--signal', 'SIGKILL', id);
      await gated.site.cri.stopContainer(pod.containerId);
      expect(await readNeighbours()).not.toContain(SECRET);
      const { memoryDirectory } = gated.site.agent.paths;
      await until(async () => (await filesContaining([memoryDirectory], SECRET)).length === 0);
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
    });
  });
});
