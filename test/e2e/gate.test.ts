/** With a lease everything works, without one nothing does, and both are said in plain words. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { CONTACT, GatedSite, SECRET, refusalOf } from './gated-site.ts';

describeOnEachContainerd('the gate', (containerd) => {
  let gated: GatedSite;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
  });
  afterAll(async () => {
    await gated.stop();
  });

  describe('without a license', () => {
    test('CRI cannot pull, and the message names reason, next step and contact', async () => {
      const refusal = await refusalOf(gated.site.cri.pullImage(gated.image));
      expect(refusal).toContain('DENIED_NODE_NOT_ACTIVATED');
      expect(refusal).toContain('latchkey node activate');
      expect(refusal).toContain(CONTACT);
    });

    test('ctr cannot pull', async () => {
      const { status, output } = await gated.pullWithCtr();
      expect(status).not.toBe(0);
      expect(output).toContain('DENIED_NODE_NOT_ACTIVATED');
      expect(output).toContain(CONTACT);
    });

    test('another snapshotter gets no plaintext either', async () => {
      const { status, output } = await gated.pullWithCtr('overlayfs');
      expect(status).not.toBe(0);
      expect(output).toContain('DENIED_FOREIGN_UNPACK');
      expect(output).toContain(CONTACT);
    });

    test('a plain image pulls and runs', async () => {
      await gated.site.cri.pullImage(gated.site.reference('plain'));
      const pod = await gated.site.cri.runPod('plain-unlicensed', gated.site.reference('plain'));
      await gated.site.cri.removePod(pod.sandboxId);
    });

    test('a malformed key and an unknown one are refused in their own words', async () => {
      expect(await refusalOf(gated.agent.activate('not-a-key'))).toMatch(/license key/);
      const { licenseKey } = await gated.license();
      const unknown = licenseKey.replace(/^LK-...../, 'LK-00000');
      expect(await refusalOf(gated.agent.activate(unknown))).toMatch(/license key|no license/);
    });
  });

  describe('with a license', () => {
    let licenseId: string;

    beforeAll(async () => {
      licenseId = (await gated.activate()).license.id;
    });

    test('CRI pulls, creates, starts and execs', async () => {
      await gated.site.cri.pullImage(gated.image);
      const pod = await gated.site.cri.runPod('licensed', gated.image);
      const { output } = await gated.site.cri.execSync(pod.containerId, [
        '/bin/busybox',
        'cat',
        '/app/one.txt',
        '/app/two.txt',
      ]);
      expect(output).toContain(`${SECRET} one`);
      expect(output).toContain(`${SECRET} two`);
      await gated.site.cri.removePod(pod.sandboxId);
    });

    test('ctr pulls and runs', async () => {
      expect((await gated.pullWithCtr()).status).toBe(0);
      const { status, output } = await gated.runWithCtr('licensed');
      expect(output).toContain(`${SECRET} one`);
      expect(status).toBe(0);
    });

    test('no plaintext is on the disk while it is running in memory', async () => {
      const status = await gated.agent.status();
      expect(status.gatedLayers.every(({ plaintextPresent }) => plaintextPresent)).toBe(true);
      const inMemory = await filesContaining([gated.site.agent.paths.memoryDirectory], SECRET);
      expect(inMemory.length).toBeGreaterThan(0);
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
    });

    test('what a container copies up stays off the disk', async () => {
      const pod = await gated.site.cri.runPod('copy-up', gated.image);
      await gated.site.cri.execSync(pod.containerId, ['/bin/sh', '-c', 'echo more >> /app/one.txt']);
      const { output } = await gated.site.cri.execSync(pod.containerId, [
        '/bin/busybox',
        'tail',
        '-n',
        '1',
        '/app/one.txt',
      ]);
      expect(output).toBe('more\n');
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
      await gated.site.cri.removePod(pod.sandboxId);
    });

    test.each(['overlayfs', 'native'])(
      'the %s snapshotter still gets nothing, and says what to do',
      async (snapshotter) => {
        const { status, output } = await gated.runWithCtr(`other-${snapshotter}`, snapshotter);
        expect(status).not.toBe(0);
        expect(output).toContain('DENIED_FOREIGN_UNPACK');
        expect(output).toContain('use the snapshotter named latchkey');
        expect(output).toContain(licenseId);
        expect(output).toContain(CONTACT);
      },
    );

    test('the message of a refused processor arrives every time', async () => {
      let arrived = 0;
      for (let round = 0; arrived < 10; round += 1) {
        const { output } = await gated.runWithCtr(`message-${round}`, 'overlayfs');
        // containerd 1.6 may be collecting the base of the attempt before; that has nothing to do with us.
        if (output.includes('does not exist: not found')) continue;
        expect(output).toContain('DENIED_FOREIGN_UNPACK');
        arrived += 1;
      }
    });

    test('an export holds ciphertext only', async () => {
      const archive = `${gated.site.directory}/export.tar`;
      expect((await gated.ctr('images', 'export', archive, gated.image)).status).toBe(0);
      expect(await filesContaining([archive], SECRET)).toEqual([]);
    });
  });
});
