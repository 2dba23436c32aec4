/** Pods that name the runtime class are gated; all others stay on containerd's own snapshotter. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { CONTACT, GatedSite, SECRET, refusalOf, until } from './gated-site.ts';

const CLASS = 'latchkey';

describeOnEachContainerd(
  'the mode runtime-class',
  (containerd) => {
    let gated: GatedSite;
    let licenseId: string;

    beforeAll(async () => {
      gated = await GatedSite.start({ containerd, agentSettings: { mode: 'runtime-class' } });
    });
    afterAll(async () => {
      await gated.stop();
    });

    test('a pod of no class runs plain images from containerd’s own snapshotter', async () => {
      const plain = gated.site.reference('plain');
      await gated.site.cri.pullImage(plain);
      const pod = await gated.site.cri.runPod('ordinary', plain);
      const { output } = await gated.site.containerd.ctr(['snapshots', 'list'], 'k8s.io');
      expect(output).toContain(pod.containerId);
      await gated.site.cri.removePod(pod.sandboxId);
    });

    test('without a license the class cannot pull, and is told why', async () => {
      const refusal = await refusalOf(gated.site.cri.pullImage(gated.image, CLASS));
      expect(refusal).toContain('DENIED_NODE_NOT_ACTIVATED');
      expect(refusal).toContain(CONTACT);
    });

    test('with one it runs, in memory only', async () => {
      licenseId = (await gated.activate()).license.id;
      await gated.site.cri.pullImage(gated.site.reference('pause'), CLASS);
      await gated.site.cri.pullImage(gated.image, CLASS);
      const pod = await gated.site.cri.runPod('gated', gated.image, [], CLASS);
      const read = ['/bin/busybox', 'cat', '/app/one.txt'];
      expect((await gated.site.cri.execSync(pod.containerId, read)).output).toContain(SECRET);
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
      await gated.site.cri.removePod(pod.sandboxId);
    });

    test('a pod of no class gets nothing of a gated image', async () => {
      const refusal = await refusalOf(gated.site.cri.runPod('classless', gated.image));
      expect(refusal).toContain('DENIED_FOREIGN_UNPACK');
      expect(refusal).toContain(CONTACT);
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
    });

    test('after the revocation the class starts nothing any more, and plain pods go on', async () => {
      await gated.site.api.changeLicense(licenseId, 'revoke');
      await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
      const refusal = await refusalOf(gated.site.cri.runPod('revoked', gated.image, [], CLASS));
      expect(refusal).toContain('DENIED_LICENSE_REVOKED');
      expect(refusal).toContain(licenseId);
      const pod = await gated.site.cri.runPod('still-ordinary', gated.site.reference('plain'));
      await gated.site.cri.removePod(pod.sandboxId);
    });
  },
  // 1.6 has one snapshotter for all pods; the installer says so.
  ['1.7', '2'],
);
