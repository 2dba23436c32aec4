/** Stock overlayfs with an agent that takes plaintext away: what that gates, and what it cannot. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { CONTACT, GatedSite, SECRET, refusalOf, toldOnce, until } from './gated-site.ts';
import { ROUNDS, expectEachTime } from './refused-each-time.ts';

/** Each of them unpacks by itself. */
const AT_ONCE = 10;

describeOnEachContainerd('the mode sweep', (containerd) => {
  let gated: GatedSite;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd, agentSettings: { mode: 'sweep' } });
  });
  afterAll(async () => {
    await gated.stop();
  });

  const onDisk = async () => (await filesContaining([gated.site.directory], SECRET)).length > 0;
  const pull = () => gated.pullWithCtr('overlayfs');
  /** While layers are taken away a start can fall between, and ctr holds nothing that would keep its own; it tries again. */
  async function run(id: string): Promise<{ status: number; output: string }> {
    const answer = await gated.runWithCtr(id, 'overlayfs');
    return answer.output.includes('does not exist: not found') ? run(id) : answer;
  }

  /** A container that stays, made without pulling. */
  async function startWithCtr(id: string): Promise<string> {
    const { status, output } = await gated.ctr('run', '--detach', '--net-host', gated.image, id);
    // With the layers above it the plain base may be collected too, in just this moment; a client tries again.
    if (output.includes('does not exist: not found')) return startWithCtr(id);
    return status === 0 ? 'started' : output;
  }

  async function removeWithCtr(id: string): Promise<void> {
    await gated.ctr('tasks', 'kill', '--signal', 'SIGKILL', id);
    await gated.ctr('tasks', 'delete', '--force', id);
    await gated.ctr('containers', 'delete', id);
  }

  /** How many layers the agent has opened so far. */
  async function grants(): Promise<number> {
    return (await gated.site.agent.log()).split('\n').filter((line) => line.includes('layer decrypted'))
      .length;
  }

  test('the node says which mode it is in and what that means', async () => {
    const status = await gated.agent.status();
    expect(status.mode).toBe('sweep');
    expect(status.modeDoesNotProtect).toContain('unlinked, not erased');
  });

  describe('without a license', () => {
    test(`CRI cannot pull, and is told why ${ROUNDS} of ${ROUNDS} times`, async () => {
      // Else containerd 1.6 collects the base that one failed pull has unpacked while another one builds on it.
      await gated.site.cri.pullImage(gated.site.reference('plain'));
      await expectEachTime(
        () => gated.site.cri.pullImage(gated.image),
        () => ['DENIED_NODE_NOT_ACTIVATED', 'no license', 'latchkey node activate', CONTACT],
        AT_ONCE,
      );
      expect(await onDisk()).toBe(false);
    });

    test('ctr cannot pull, and is told why', async () => {
      const { output } = await pull();
      expect(output).toContain('DENIED_NODE_NOT_ACTIVATED');
      expect(output).toContain(CONTACT);
      expect(await onDisk()).toBe(false);
    });

    test('a plain image pulls and runs, and stays unpacked', async () => {
      const plain = gated.site.reference('plain');
      await gated.site.cri.pullImage(plain);
      const pod = await gated.site.cri.runPod('plain', plain);
      await gated.site.cri.removePod(pod.sandboxId);
      await gated.agent.dropPlaintext();
      const { output } = await gated.site.containerd.ctr(['snapshots', 'list'], 'k8s.io');
      expect(output).toContain('sha256:');
    });
  });

  describe('with a license', () => {
    beforeAll(async () => {
      await gated.activate();
    });

    test('ctr pulls and runs; when the container is gone its plaintext is, without a word to anybody', async () => {
      expect((await pull()).status).toBe(0);
      expect(await onDisk()).toBe(true);
      const { status, output } = await run('first');
      expect(output).toContain(`${SECRET} one`);
      expect(status).toBe(0);
      await until(async () => !(await onDisk()));
    });

    test('the next start unpacks again and so asks again, and the image need not be pulled', async () => {
      const before = await grants();
      const { status, output } = await run('again');
      expect(output).toContain(`${SECRET} one`);
      expect(status).toBe(0);
      expect(await grants()).toBe(before + 2);
    });

    test('CRI the same: it unpacks when it creates the container', async () => {
      await gated.site.cri.pullImage(gated.image);
      await gated.agent.dropPlaintext();
      expect(await onDisk()).toBe(false);
      const pod = await gated.site.cri.runPod('cri', gated.image);
      const { output } = await gated.site.cri.execSync(pod.containerId, [
        '/bin/busybox',
        'cat',
        '/app/two.txt',
      ]);
      expect(output).toContain(`${SECRET} two`);
      await gated.site.cri.removePod(pod.sandboxId);
      await gated.agent.dropPlaintext();
      expect(await onDisk()).toBe(false);
    });

    test('while a container runs its plaintext stays on the disk, and a second start asks nobody', async () => {
      expect(await startWithCtr('stays')).toBe('started');
      const before = await grants();
      expect((await run('second')).output).toContain(`${SECRET} one`);
      expect(await grants()).toBe(before);
      const { keptLayers } = await gated.agent.dropPlaintext();
      expect(keptLayers).toBe(2);
      expect(await onDisk()).toBe(true);
      await removeWithCtr('stays');
      await until(async () => !(await onDisk()));
    });

    test('another snapshotter is swept too', async () => {
      expect((await gated.runWithCtr('native', 'native')).output).toContain(`${SECRET} one`);
      await gated.agent.dropPlaintext();
      expect(await onDisk()).toBe(false);
    });

    test('an agent that crashes leaves plaintext behind, and takes it away when it is back', async () => {
      expect(await startWithCtr('crash')).toBe('started');
      await gated.site.agent.kill();
      await removeWithCtr('crash');
      expect(await onDisk()).toBe(true);
      await gated.site.agent.start();
      await until(async () => !(await onDisk()));
    });

    test('while the agent is away nothing encrypted is unpacked, and plain images start', async () => {
      await gated.agent.dropPlaintext();
      await gated.site.agent.stop();
      const { output } = await run('away');
      expect(output).toContain('latchkey node run');
      const plain = gated.site.reference('plain');
      const pod = await gated.site.cri.runPod('plain-away', plain);
      await gated.site.cri.removePod(pod.sandboxId);
      await gated.site.agent.start();
    });
  });

  describe('after a revocation', () => {
    let licenseId: string;

    /** The image runs, one container of it is stopped, and then the license is revoked. */
    async function revokeWhileRunning(onRevoke: 'deny-start' | 'kill'): Promise<void> {
      await gated.revokeAll();
      await untilRefused();
      licenseId = (await gated.activate({ onRevoke })).license.id;
      expect(await startWithCtr(`runs-${onRevoke}`)).toBe('started');
      expect(await startWithCtr(`stopped-${onRevoke}`)).toBe('started');
      await gated.ctr('tasks', 'kill', '--signal', 'SIGKILL', `stopped-${onRevoke}`);
      await gated.ctr('tasks', 'delete', '--force', `stopped-${onRevoke}`);
      await gated.site.api.changeLicense(licenseId, 'revoke');
      await untilRefused();
    }

    const untilRefused = () =>
      until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));

    function expectRefusal(output: string): void {
      expect(output).toContain('DENIED_LICENSE_REVOKED');
      expect(output).toContain(licenseId);
      expect(output).toContain(CONTACT);
    }

    test('a license that says kill leaves nothing that runs and nothing to read', async () => {
      await revokeWhileRunning('kill');
      await until(async () => !(await onDisk()));
      expect((await gated.ctr('tasks', 'list')).output).not.toContain('RUNNING');
    });

    test('ctr cannot start it again, with the image present', async () => {
      expectRefusal((await run('revoked')).output);
      await gated.site.cri.pullImage(gated.image).catch(() => undefined);
    });

    test(`CRI is told why ${ROUNDS} of ${ROUNDS} times when it creates a container of it`, async () => {
      const sandboxId = await gated.site.cri.runPodSandbox('revoked');
      await expectEachTime(
        (round) =>
          toldOnce(() =>
            refusalOf(gated.site.cri.createContainer(sandboxId, 'revoked', gated.image, [], round)),
          ).then((told) => Promise.reject(new Error(told))),
        () => ['DENIED_LICENSE_REVOKED', licenseId, 'is revoked', CONTACT],
        AT_ONCE,
      );
      await gated.site.cri.removePod(sandboxId);
    });

    test('a container that was stopped before does not start again', async () => {
      const { status, output } = await gated.ctr('tasks', 'start', '--detach', 'stopped-kill');
      expect(status).not.toBe(0);
      expect(output).not.toContain(SECRET);
    });

    test('with a license again it starts without a pull', async () => {
      licenseId = (await gated.activate()).license.id;
      expect((await run('licensed-again')).output).toContain(`${SECRET} one`);
    });

    test('one that says deny-start leaves what runs, and with it the plaintext until it ends', async () => {
      await revokeWhileRunning('deny-start');
      expect((await gated.ctr('tasks', 'list')).output).toMatch(/runs-deny-start +\d+ +RUNNING/);
      // Whether another one can start beside it is a race with the sweeper; the guide says that it can.
      expect(await onDisk()).toBe(true);
      await removeWithCtr('runs-deny-start');
      await until(async () => !(await onDisk()));
      expectRefusal((await run('afterwards')).output);
    });

    test('an image that was deleted while it runs is still found', async () => {
      licenseId = (await gated.activate({ onRevoke: 'kill' })).license.id;
      expect(await startWithCtr('hidden')).toBe('started');
      await until(async () =>
        (await gated.ctr('snapshots', 'info', await topOf('hidden'))).output.includes('latchkey'),
      );
      await gated.ctr('images', 'remove', '--sync', gated.image);
      await gated.site.api.changeLicense(licenseId, 'revoke');
      await until(async () => !(await onDisk()));
    });

    /** The chain that a container stands on. */
    async function topOf(id: string): Promise<string> {
      const { output } = await gated.ctr('snapshots', 'info', id);
      return (JSON.parse(output) as { Parent: string }).Parent;
    }
  });
});
