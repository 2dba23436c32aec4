/** What becomes of running containers when their license is refused, as it says itself. */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { filesContaining } from '../../lab/site.ts';
import type { LicenseNode } from '#src/wire/admin/node.ts';
import { ContainerState } from '#src/wire/generated/cri/runtime.ts';
import { ContainerdConnection } from '../../shim/containerd/connection.ts';
import { runningWorkloads } from '../../shim/containerd/workloads.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, refusalOf, until } from './gated-site.ts';

const GRACE_SECONDS = 2;
const KILLED = 137;
/** Waits in pieces, since a shell handles a signal between two programs. */
const OBEYS = ['/bin/sh', '-c', 'trap "exit 7" TERM; while true; do busybox sleep 0.1; done'];
const IGNORES = ['/bin/sh', '-c', 'trap "" TERM; while true; do busybox sleep 0.1; done'];

describeOnEachContainerd('running containers of a refused license', (version) => {
  let gated: GatedSite;
  let containerd: ContainerdConnection;

  beforeAll(async () => {
    gated = await GatedSite.start({
      containerd: version,
      agentSettings: { stop_grace_seconds: GRACE_SECONDS },
    });
    containerd = new ContainerdConnection(gated.site.containerd.address);
  });
  beforeEach(async () => {
    await gated.revokeAll();
    await gated.site.containerd.removeAllContainers();
  });
  afterAll(async () => {
    containerd.close();
    await gated.stop();
  });

  /** Names of the containers of this image that have a process. */
  async function running(): Promise<string[]> {
    const workloads = await runningWorkloads(containerd);
    return workloads.filter(({ image }) => image === gated.image).map(({ containerId }) => containerId);
  }

  async function runDetached(id: string, command: string[], namespace = 'default', options: string[] = []) {
    const run = ['run', '--detach', '--net-host', '--snapshotter', 'latchkey', ...options, gated.image, id];
    const answer = await gated.site.containerd.ctr([...run, ...command], namespace);
    expect(answer).toMatchObject({ status: 0 });
  }

  /** What this node has told the key server about a license. */
  async function reportOf(licenseId: string): Promise<LicenseNode['report'] | undefined> {
    return (await gated.site.api.licenseNodes(licenseId))[0]?.report;
  }

  async function untilNothingRuns(): Promise<void> {
    await until(async () => (await running()).length === 0);
  }

  test('stop: each process gets SIGTERM and time to end, in every namespace', async () => {
    const { license } = await gated.activate({ onRevoke: 'stop' });
    await gated.site.cri.pullImage(gated.image);
    await gated.pullWithCtr();
    const pull = ['images', 'pull', '--plain-http', '--snapshotter', 'latchkey', gated.image];
    await gated.site.containerd.ctr(pull, 'elsewhere');
    const obeys = await gated.site.cri.runPod('obeys', gated.image, OBEYS);
    const ignores = await gated.site.cri.runPod('ignores', gated.image, IGNORES);
    await runDetached('by-ctr', IGNORES);
    await runDetached('by-ctr-elsewhere', OBEYS, 'elsewhere');
    await gated.site.api.changeLicense(license.id, 'revoke');
    await untilNothingRuns();
    await until(
      async () =>
        (await gated.site.cri.containerState(ignores.containerId)) === ContainerState.CONTAINER_EXITED,
    );
    expect(await gated.site.cri.containerStatus(obeys.containerId)).toMatchObject({
      state: ContainerState.CONTAINER_EXITED,
      exitCode: 7,
    });
    expect(await gated.site.cri.containerStatus(ignores.containerId)).toMatchObject({ exitCode: KILLED });
    const restart = gated.site.cri.createContainer(obeys.sandboxId, 'obeys', gated.image, OBEYS, 1);
    expect(await refusalOf(restart)).toContain('DENIED_LICENSE_REVOKED');
    await gated.site.cri.removePod(obeys.sandboxId);
    await gated.site.cri.removePod(ignores.sandboxId);
  });

  test('kill: at once, with what was started inside, and also when it is paused', async () => {
    const { license } = await gated.activate({ onRevoke: 'kill' });
    await gated.pullWithCtr();
    await runDetached('with-exec', IGNORES);
    await runDetached('paused', OBEYS);
    const exec = ['tasks', 'exec', '--detach', '--exec-id', 'inside', 'with-exec', ...IGNORES];
    expect((await gated.ctr(...exec)).status).toBe(0);
    expect((await gated.ctr('tasks', 'pause', 'paused')).status).toBe(0);
    await gated.site.api.changeLicense(license.id, 'revoke');
    await untilNothingRuns();
    expect((await gated.ctr('tasks', 'ps', 'with-exec')).output).not.toContain('inside');
  });

  test('kill: also when its image goes by another name than the container was made with', async () => {
    const { license } = await gated.activate({ onRevoke: 'kill' });
    await gated.pullWithCtr();
    await runDetached('renamed', IGNORES);
    const other = gated.site.reference('renamed');
    expect((await gated.ctr('images', 'tag', gated.image, other)).status).toBe(0);
    for (const namespace of ['default', 'k8s.io', 'elsewhere'])
      await gated.site.containerd.ctr(['images', 'remove', gated.image], namespace);
    expect((await gated.ctr('images', 'list', '--quiet')).output.split('\n')).not.toContain(gated.image);
    expect((await gated.ctr('tasks', 'list')).output).toMatch(/^renamed .*RUNNING/m);
    await gated.site.api.changeLicense(license.id, 'revoke');
    await until(async () => !(await gated.ctr('tasks', 'list')).output.includes('RUNNING'));
    await untilNothingRuns();
    await gated.ctr('images', 'remove', other);
  });

  test('stop: a paused container ends too', async () => {
    const { license } = await gated.activate({ onRevoke: 'stop' });
    await gated.pullWithCtr();
    await runDetached('paused-obeys', OBEYS);
    await runDetached('paused-ignores', IGNORES);
    for (const id of ['paused-obeys', 'paused-ignores']) await gated.ctr('tasks', 'pause', id);
    await gated.site.api.changeLicense(license.id, 'suspend');
    await untilNothingRuns();
  });

  test('a container that was allowed just before and appears after is caught', async () => {
    const { license } = await gated.activate({ onRevoke: 'kill' });
    await gated.pullWithCtr();
    await mkdir(join(gated.site.directory, 'slow'), { recursive: true });
    const slowRunc = join(gated.site.directory, 'slow', 'runc');
    await writeFile(slowRunc, '#!/bin/sh\ncase "$*" in *" create "*) sleep 3;; esac\nexec runc "$@"\n');
    await chmod(slowRunc, 0o755);
    const options = ['--runc-binary', slowRunc];
    const late = runDetached('late', ['/bin/busybox', 'cat', '/dev/zero'], 'default', options).catch(
      () => undefined,
    );
    const isMounted = async (): Promise<boolean> =>
      (await gated.ctr('snapshots', '--snapshotter', 'latchkey', 'list')).output.includes('late');
    await until(isMounted);
    await sleep(1000);
    await gated.site.api.changeLicense(license.id, 'revoke');
    await late;
    await untilNothingRuns();
  });

  test('deny-start: it goes on, and its plaintext goes when it ends', async () => {
    const { license } = await gated.activate();
    await gated.site.cri.pullImage(gated.image);
    const pod = await gated.site.cri.runPod('goes-on', gated.image);
    const copyUp = ['/bin/sh', '-c', 'echo more >> /app/one.txt'];
    await gated.site.cri.execSync(pod.containerId, copyUp);
    await gated.site.api.changeLicense(license.id, 'revoke');
    await until(async () =>
      (await gated.agent.status()).licenses.some(({ state }) => state === 'DENIED_LICENSE_REVOKED'),
    );
    await sleep(1000);
    expect(await gated.site.cri.containerState(pod.containerId)).toBe(ContainerState.CONTAINER_RUNNING);
    await gated.site.cri.stopContainer(pod.containerId);
    const { memoryDirectory } = gated.site.agent.paths;
    await until(async () => (await filesContaining([memoryDirectory], SECRET)).length === 0);
    await until(async () => (await reportOf(license.id))?.plaintextGoneAtMs != null);
    expect(await reportOf(license.id)).toMatchObject({ runningContainers: 0, plaintextLayers: 0 });
    await gated.site.cri.removePod(pod.sandboxId);
  });

  test('another license of this node for the product keeps it running', async () => {
    const second = await gated.activate({ onRevoke: 'kill' });
    const first = await gated.activate({ onRevoke: 'kill' });
    await gated.pullWithCtr();
    await runDetached('twice-licensed', OBEYS);
    await gated.site.api.changeLicense(first.license.id, 'revoke');
    await until(async () =>
      (await gated.agent.status()).leases.some(({ licenseId }) => licenseId === second.license.id),
    );
    await sleep(1000);
    expect(await running()).toEqual(['twice-licensed']);
    await gated.site.api.changeLicense(second.license.id, 'revoke');
    await untilNothingRuns();
  });

  test('a license that was revoked while the agent was down ends it as soon as the agent is back', async () => {
    const { license } = await gated.activate({ onRevoke: 'kill' });
    await gated.pullWithCtr();
    await runDetached('unwatched', OBEYS);
    await gated.site.agent.kill();
    await gated.site.api.changeLicense(license.id, 'revoke');
    await gated.site.agent.start();
    await untilNothingRuns();
    // containerd dials again in its own time.
    const list = ['snapshots', '--snapshotter', 'latchkey', 'list'];
    await until(async () => (await gated.ctr(...list)).status === 0);
  });

  test('a license that ends stops it as well', async () => {
    const { license } = await gated.activate({ onRevoke: 'stop' });
    await gated.pullWithCtr();
    await runDetached('out-of-license', OBEYS);
    await gated.site.api.updateLicense(license.id, { expiresAtMs: Date.now() + 5000 });
    await untilNothingRuns();
    expect((await gated.agent.status()).licenses.at(-1)?.state).toBe('DENIED_LICENSE_EXPIRED');
  });

  test('a lease that ends while the key server is away does not', async () => {
    await gated.activate({ onRevoke: 'kill', leaseDurationMs: 2000 });
    await gated.pullWithCtr();
    await runDetached('cut-off', OBEYS);
    await gated.site.keyServer.kill();
    await until(async () => (await gated.agent.status()).leases.every(({ state }) => state !== 'VALID'));
    await sleep(2000);
    expect(await running()).toEqual(['cut-off']);
    await gated.site.restartKeyServer();
  });
});
