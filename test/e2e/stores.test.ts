/** The same promises in every kind of plaintext store, on a real containerd. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINERD_VERSIONS, INSTALLED_CONTAINERD } from '../../lab/containerd-versions.ts';
import { layerFromFiles } from '../../lab/layer-archive.ts';
import type { LabAgentOptions } from '../../lab/node-agent.ts';
import { filesContaining } from '../../lab/site.ts';
import type { PlaintextStoreKind } from '../../shim/snapshotter/plaintext-store.ts';
import { describeOnContainerds } from '../fakes/on-containerds.ts';
import { hasDeviceMapper, storeSkipReason } from '../fakes/store-skip-reason.ts';
import { GatedSite, SECRET, releaseSecretImage, siteSkipReason, until } from './gated-site.ts';

const READ_SECRET = ['/bin/busybox', 'head', '-c', String(SECRET.length), '/app/large.txt'];

interface Case {
  readonly kind: PlaintextStoreKind;
  readonly settings: NonNullable<LabAgentOptions['settings']>;
  readonly fileSystem: string;
}

const CASES: readonly Case[] = [
  { kind: 'memory', settings: { plaintext_capacity: '64m' }, fileSystem: 'tmpfs' },
  {
    kind: 'compressed-memory',
    settings: { plaintext_store: 'compressed-memory', plaintext_capacity: '64m' },
    fileSystem: 'tmpfs',
  },
  {
    kind: 'encrypted-volume',
    settings: { plaintext_store: 'encrypted-volume', volume_capacity: '64m' },
    fileSystem: hasDeviceMapper() ? 'ext4' : 'fuse.gocryptfs',
  },
];

for (const { kind, settings, fileSystem } of CASES) {
  const skipReason = siteSkipReason() ?? storeSkipReason(kind);
  // The store in memory is under every other test, on every containerd.
  const versions = kind === 'memory' ? [INSTALLED_CONTAINERD] : CONTAINERD_VERSIONS;

  describeOnContainerds({ title: `plaintext in the store ${kind}`, versions, skipReason }, (containerd) => {
    let gated: GatedSite;
    let image: string;

    beforeAll(async () => {
      gated = await GatedSite.start({ containerd, agentSettings: settings });
      await gated.activate();
      const content = `${SECRET} of a large file\n`.repeat(200_000);
      await releaseSecretImage(gated.site, 'large', [layerFromFiles([{ path: 'app/large.txt', content }])]);
      image = gated.site.reference('large');
    });
    afterAll(async () => {
      await gated.stop();
    });

    function store(): string {
      return gated.site.agent.paths.memoryDirectory;
    }

    /** Where the store can be read: what is mounted in it too. */
    function inStore(): Promise<string[]> {
      return filesContaining([store()], SECRET, 'mounts');
    }

    function onDisk(): Promise<string[]> {
      return filesContaining([gated.site.directory], SECRET);
    }

    async function decryptions(): Promise<number> {
      return (await gated.site.agent.log()).split('layer decrypted').length - 1;
    }

    /** containerd's connection to an agent that was restarted comes back within its own backoff. */
    async function runPod(name: string): Promise<{ sandboxId: string; containerId: string }> {
      for (let attempt = 0; ; attempt += 1) {
        try {
          return await gated.site.cri.runPod(`${name}-${attempt}`, image);
        } catch (error) {
          if (!String(error).includes('UNAVAILABLE') && !String(error).includes('unavailable')) throw error;
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
      }
    }

    async function read(containerId: string): Promise<string> {
      return (await gated.site.cri.execSync(containerId, READ_SECRET)).output;
    }

    test('is mounted where only root gets in', () => {
      expect(statSync(store()).mode & 0o777).toBe(0o700);
      const found = execFileSync('findmnt', ['--noheadings', '--output', 'FSTYPE', '--mountpoint', store()]);
      expect(found.toString().trim()).toBe(fileSystem);
    });

    test('runs an image, and nothing of it is on the disk', async () => {
      await gated.site.cri.pullImage(image);
      const pod = await runPod('first');
      expect(await read(pod.containerId)).toBe(SECRET);
      expect(await inStore()).not.toEqual([]);
      expect(await onDisk()).toEqual([]);
      await gated.site.cri.removePod(pod.sandboxId);
    });

    test('holds layers compressed where it should', async () => {
      const { plaintextBytes } = await gated.agent.status();
      const unpacked = 200_000 * `${SECRET} of a large file\n`.length;
      if (kind === 'compressed-memory') expect(plaintextBytes).toBeLessThan(unpacked / 4);
      else expect(plaintextBytes).toBeGreaterThan(unpacked);
    });

    test('takes what a container copies up', async () => {
      const pod = await runPod('copy-up');
      await gated.site.cri.execSync(pod.containerId, ['/bin/sh', '-c', 'echo more >> /app/large.txt']);
      expect(await read(pod.containerId)).toBe(SECRET);
      expect((await inStore()).length).toBeGreaterThan(1);
      expect(await onDisk()).toEqual([]);
      await gated.site.cri.removePod(pod.sandboxId);
    });

    test('keeps what a running container stands on, and drops the rest to nothing', async () => {
      const pod = await runPod('in-use');
      await gated.agent.dropPlaintext();
      expect(await read(pod.containerId)).toBe(SECRET);
      await gated.site.cri.removePod(pod.sandboxId);
      await gated.agent.dropPlaintext();
      expect(await inStore()).toEqual([]);
      expect(await onDisk()).toEqual([]);
      const before = await decryptions();
      const again = await runPod('re-derived');
      expect(await read(again.containerId)).toBe(SECRET);
      expect(await decryptions()).toBe(before + 1);
      await gated.site.cri.removePod(again.sandboxId);
    });

    // The rest is between the agent and the kernel, whatever containerd is above.
    if (containerd !== INSTALLED_CONTAINERD) return;

    test('outlives the agent under a running container, and is used again', async () => {
      const pod = await runPod('restarted');
      for (const end of ['stop', 'kill'] as const) {
        await gated.site.agent[end]();
        expect(await read(pod.containerId)).toBe(SECRET);
        await gated.site.agent.start();
        expect(await read(pod.containerId)).toBe(SECRET);
        const before = await decryptions();
        const second = await runPod(`after-${end}`);
        expect(await read(second.containerId)).toBe(SECRET);
        expect(await decryptions()).toBe(before);
        await gated.site.cri.removePod(second.sandboxId);
      }
      await gated.site.cri.removePod(pod.sandboxId);
    });

    test('is empty after a reboot, and filled again without a pull', async () => {
      await gated.site.agent.kill();
      await gated.site.agent.forgetMemory();
      // Everything that a machine without memory still has.
      expect(await filesContaining([gated.site.directory], SECRET, 'mounts')).toEqual([]);
      const volume = join(gated.site.agent.stateDirectory, 'plaintext.volume');
      const left = existsSync(volume) ? readFileSync(volume) : undefined;
      await gated.site.agent.start();
      expect(await inStore()).toEqual([]);
      if (left !== undefined) expect(readFileSync(volume).equals(left)).toBe(false);
      const pod = await runPod('rebooted');
      expect(await read(pod.containerId)).toBe(SECRET);
      expect(await onDisk()).toEqual([]);
      await gated.site.cri.removePod(pod.sandboxId);
    });

    test('is forgotten at a revocation', async () => {
      const pod = await runPod('before-revocation');
      await gated.site.cri.removePod(pod.sandboxId);
      expect(await inStore()).not.toEqual([]);
      await gated.revokeAll();
      while ((await inStore()).length > 0) await new Promise((resolve) => setTimeout(resolve, 50));
      expect(await onDisk()).toEqual([]);
      expect(await gated.site.cri.runPod('revoked', image).catch(String)).toContain('DENIED_LICENSE_REVOKED');
      await gated.activate();
      const again = await runPod('licensed-again');
      expect(await read(again.containerId)).toBe(SECRET);
      await gated.site.cri.removePod(again.sandboxId);
    });
  });
}

describe.each(CASES)('the end of an agent that drops at shutdown, with $kind', ({ kind, settings }) => {
  const skipReason = siteSkipReason() ?? storeSkipReason(kind);

  test.skipIf(skipReason !== undefined)(
    skipReason ?? 'takes nothing from a running container, and leaves nothing without one',
    async () => {
      const gated = await GatedSite.start({ agentSettings: { ...settings, drop_at_shutdown: true } });
      try {
        await gated.activate();
        await gated.site.cri.pullImage(gated.image);
        const pod = await gated.site.cri.runPod('running', gated.image);
        const { memoryDirectory } = gated.site.agent.paths;
        await gated.site.agent.stop();
        const { output } = await gated.site.cri.execSync(pod.containerId, [
          '/bin/busybox',
          'cat',
          '/app/one.txt',
        ]);
        expect(output).toContain(SECRET);
        await gated.site.agent.start();
        // containerd dials again in its own time; it asks only where a namespace has snapshots.
        const list = ['snapshots', '--snapshotter', 'latchkey', 'list'];
        await until(async () => (await gated.site.containerd.ctr(list, 'k8s.io')).status === 0);
        // The start gets a lease again; without one, what nobody uses any more would go at once.
        const next = await gated.site.cri.runPod('next', gated.image);
        await gated.site.cri.removePod(pod.sandboxId);
        await gated.site.cri.removePod(next.sandboxId);
        expect(await filesContaining([memoryDirectory], SECRET, 'mounts')).not.toEqual([]);
        await gated.site.agent.stop();
        expect(await filesContaining([gated.site.directory], SECRET, 'mounts')).toEqual([]);
        expect(readFileSync('/proc/self/mounts', 'utf8')).not.toContain(`${memoryDirectory} `);
        expect(existsSync(join(gated.site.agent.stateDirectory, 'plaintext.volume'))).toBe(false);
      } finally {
        await gated.stop();
      }
    },
  );
});
