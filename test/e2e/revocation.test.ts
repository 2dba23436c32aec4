/** After a revocation nothing starts, by whatever door, and nothing is left to read. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { CONTACT, GatedSite, SECRET, refusalOf, until } from './gated-site.ts';

describeOnEachContainerd('revocation', (containerd) => {
  let gated: GatedSite;
  let licenseId: string;
  let running: { sandboxId: string; containerId: string };
  let created: string;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    licenseId = (await gated.activate()).license.id;
    await gated.site.cri.pullImage(gated.image);
    await gated.pullWithCtr();
    running = await gated.site.cri.runPod('running', gated.image);
    created = await gated.site.cri.createContainer(running.sandboxId, 'created', gated.image);
    await gated.site.api.changeLicense(licenseId, 'revoke');
    // Without this the first refusal would only show that the node asks the key server at each start.
    await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
  });
  afterAll(async () => {
    await gated.stop();
  });

  function expectRefusal(text: string): void {
    expect(text).toContain('DENIED_LICENSE_REVOKED');
    expect(text).toContain(licenseId);
    expect(text).toContain(CONTACT);
  }

  async function decryptedLayers(): Promise<number> {
    return (await gated.site.agent.log()).split('layer decrypted').length - 1;
  }

  test('a container created before does not start', async () => {
    expectRefusal(await refusalOf(gated.site.cri.startContainer(created)));
  });

  test('a new container is not created', async () => {
    const call = gated.site.cri.createContainer(running.sandboxId, 'late', gated.image);
    expectRefusal(await refusalOf(call));
  });

  test('pulling the present image decrypts nothing', async () => {
    const before = await decryptedLayers();
    // Otherwise the count would be of words that the log does not have.
    expect(before).toBeGreaterThan(0);
    await gated.site.cri.pullImage(gated.image);
    expect(await decryptedLayers()).toBe(before);
    expectRefusal(
      await refusalOf(gated.site.cri.createContainer(running.sandboxId, 'repulled', gated.image)),
    );
  });

  test('ctr run is refused', async () => {
    const { status, output } = await gated.runWithCtr('revoked');
    expect(status).not.toBe(0);
    expectRefusal(output);
  });

  test('a re-tag does not help', async () => {
    const other = gated.site.reference('renamed');
    expect((await gated.ctr('images', 'tag', gated.image, other)).status).toBe(0);
    const { status, output } = await gated.runWithCtr('retagged', 'latchkey', other);
    expect(status).not.toBe(0);
    expectRefusal(output);
  });

  test('another namespace does not help, though content may be shared between them', async () => {
    for (const namespace of ['default', 'k8s.io', 'elsewhere']) {
      await gated.ctr('namespaces', 'create', namespace);
      const shared = await gated.ctr(
        'namespaces',
        'label',
        namespace,
        'containerd.io/namespace.shareable=true',
      );
      expect(shared.status).toBe(0);
    }
    const pull = ['images', 'pull', '--plain-http', '--snapshotter', 'latchkey', gated.image];
    const { status, output } = await gated.site.containerd.ctr(pull, 'elsewhere');
    expect(status).not.toBe(0);
    expectRefusal(output);
  });

  test('the running container goes on, as its license says', async () => {
    const command = ['/bin/busybox', 'cat', '/app/one.txt'];
    expect((await gated.site.cri.execSync(running.containerId, command)).output).toContain(SECRET);
  });

  test('ctr snapshots view, prepare, mounts and diff are refused', async () => {
    const { output } = await gated.ctr('snapshots', '--snapshotter', 'latchkey', 'list');
    const chains = output.split('\n').filter((line) => line.includes('Committed'));
    const top = gated.topChainId(chains);
    for (const args of [
      ['view', 'probe-view', top],
      ['prepare', 'probe-prepare', top],
      ['diff', top],
    ]) {
      const answer = await gated.ctr('snapshots', '--snapshotter', 'latchkey', ...args);
      expect(answer.status).not.toBe(0);
      expectRefusal(answer.output);
    }
    const mounts = await gated.site.containerd.ctr(
      ['snapshots', '--snapshotter', 'latchkey', 'mounts', '/mnt', running.containerId],
      'k8s.io',
    );
    expect(mounts.status).not.toBe(0);
    expectRefusal(mounts.output);
  });

  test('once the container has ended, nothing is left to read', async () => {
    await gated.site.cri.removePod(running.sandboxId);
    await gated.agent.dropPlaintext();
    const { gatedLayers } = await gated.agent.status();
    expect(gatedLayers.length).toBeGreaterThan(0);
    expect(gatedLayers.some(({ plaintextPresent }) => plaintextPresent)).toBe(false);
    expect(await filesContaining([gated.site.agent.paths.memoryDirectory], SECRET)).toEqual([]);
    expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
  });

  test('under a new license it starts again, from the image that is there', async () => {
    await gated.site.registry.stop();
    await gated.activate();
    const pod = await gated.site.cri.runPod('again', gated.image);
    const { output } = await gated.site.cri.execSync(pod.containerId, [
      '/bin/busybox',
      'cat',
      '/app/two.txt',
    ]);
    expect(output).toContain(`${SECRET} two`);
    await gated.site.cri.removePod(pod.sandboxId);
  });
});

/** What the guide promises: new starts are refused within this time on a connected node. */
const REFUSED_WITHIN_MS = 2000;

describeOnEachContainerd('revocation, suspension and time', (containerd) => {
  let gated: GatedSite;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
  });
  afterAll(async () => {
    await gated.stop();
  });

  /** When the agent began to refuse starts under a license. */
  async function refusedAt(licenseId: string): Promise<number | undefined> {
    const lines = (await gated.site.agent.log()).trim().split('\n');
    const line = lines.find((text) => text.includes('"msg":"starts refused"') && text.includes(licenseId));
    return line === undefined ? undefined : (JSON.parse(line) as { time: number }).time;
  }

  test('reaches a connected node by itself: the next start is refused with the key server away', async () => {
    const { license } = await gated.activate();
    await gated.pullWithCtr();
    expect((await gated.runWithCtr('before')).status).toBe(0);
    await gated.site.api.changeLicense(license.id, 'revoke');
    await until(async () =>
      (await gated.agent.status()).licenses.some(({ state }) => state === 'DENIED_LICENSE_REVOKED'),
    );
    await gated.site.keyServer.kill();
    expect((await gated.runWithCtr('after')).output).toContain('DENIED_LICENSE_REVOKED');
    await gated.site.restartKeyServer();
  });

  test('is taken by a connected node within two seconds, by the time of its own log', async () => {
    const { license } = await gated.activate();
    await gated.pullWithCtr();
    expect((await gated.runWithCtr('in-time')).status).toBe(0);
    await until(async () => (await gated.agent.status()).keyServerConnected);
    await gated.site.api.changeLicense(license.id, 'revoke');
    // From here on the vendor may rely on it. A container's own start takes longer than that on a busy machine.
    const answeredAtMs = Date.now();
    let refusedAtMs: number | undefined;
    await until(async () => (refusedAtMs = await refusedAt(license.id)) !== undefined);
    expect((await gated.runWithCtr('too-late')).output).toContain('DENIED_LICENSE_REVOKED');
    expect((refusedAtMs ?? Infinity) - answeredAtMs).toBeLessThan(REFUSED_WITHIN_MS);
  });

  test('a suspended license starts again when it is reinstated', async () => {
    const { license } = await gated.activate();
    expect((await gated.runWithCtr('active')).status).toBe(0);
    await gated.site.api.changeLicense(license.id, 'suspend');
    await until(async () => (await gated.runWithCtr('suspended')).status !== 0);
    expect((await gated.runWithCtr('suspended-2')).output).toContain('DENIED_LICENSE_SUSPENDED');
    await gated.site.api.changeLicense(license.id, 'reinstate');
    await until(async () => (await gated.runWithCtr('reinstated')).status === 0);
  });

  test('a license that says stop ends the running container', async () => {
    await gated.revokeAll();
    const { license } = await gated.activate({ onRevoke: 'kill' });
    await gated.site.cri.pullImage(gated.image);
    const pod = await gated.site.cri.runPod('to-be-killed', gated.image);
    await gated.site.api.changeLicense(license.id, 'revoke');
    const EXITED = 2;
    await until(async () => (await gated.site.cri.containerState(pod.containerId)) === EXITED);
    await gated.site.cri.removePod(pod.sandboxId);
  });
});
