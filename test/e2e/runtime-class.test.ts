/** Pods that name the runtime class are gated; all others stay on containerd's own snapshotter. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { CONTACT, GatedSite, SECRET, refusalOf, until } from './gated-site.ts';
import { ROUNDS, expectEachTime } from './refused-each-time.ts';

const CLASS = 'latchkey';
/** Each of them unpacks by itself. */
const AT_ONCE = 10;

describeOnEachContainerd(
  'the mode runtime-class',
  (containerd) => {
    let gated: GatedSite;
    let licenseId: string;
    let sandboxId: string;
    const created: string[] = [];

    beforeAll(async () => {
      gated = await GatedSite.start({ containerd, agentSettings: { mode: 'runtime-class' } });
    });
    afterAll(async () => {
      await gated.stop();
    });

    const createInClass = (name: string, round: number) =>
      gated.site.cri.createContainer(sandboxId, name, gated.image, [], round);

    test('a pod of no class runs plain images from containerd’s own snapshotter', async () => {
      const plain = gated.site.reference('plain');
      await gated.site.cri.pullImage(plain);
      const pod = await gated.site.cri.runPod('ordinary', plain);
      const { output } = await gated.site.containerd.ctr(['snapshots', 'list'], 'k8s.io');
      expect(output).toContain(pod.containerId);
      await gated.site.cri.removePod(pod.sandboxId);
    });

    test(`without a license the class cannot pull, and is told why ${ROUNDS} of ${ROUNDS} times`, async () => {
      await expectEachTime(
        () => gated.site.cri.pullImage(gated.image, CLASS),
        () => ['DENIED_NODE_NOT_ACTIVATED', 'no license', 'latchkey node activate', CONTACT],
      );
    });

    test('with one it runs, in memory only', async () => {
      licenseId = (await gated.activate()).license.id;
      await gated.site.cri.pullImage(gated.site.reference('pause'), CLASS);
      await gated.site.cri.pullImage(gated.image, CLASS);
      const pod = await gated.site.cri.runPod('gated', gated.image, [], CLASS);
      sandboxId = pod.sandboxId;
      const read = ['/bin/busybox', 'cat', '/app/one.txt'];
      expect((await gated.site.cri.execSync(pod.containerId, read)).output).toContain(SECRET);
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
      for (let round = 0; round < ROUNDS; round += 1) created.push(await createInClass('created', round));
      await gated.site.cri.removeContainer(pod.containerId);
    });

    test('a pod of no class gets nothing of a gated image', async () => {
      const classless = await gated.site.cri.runPodSandbox('classless');
      await expectEachTime(
        (round) => gated.site.cri.createContainer(classless, 'classless', gated.image, [], round),
        () => ['DENIED_FOREIGN_UNPACK', licenseId, CONTACT],
        AT_ONCE,
      );
      await gated.site.cri.removePod(classless);
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
    });

    test('after the revocation the class starts nothing any more, and plain pods go on', async () => {
      await gated.site.api.changeLicense(licenseId, 'revoke');
      await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
      const parts = () => ['DENIED_LICENSE_REVOKED', licenseId, 'is revoked', CONTACT];
      await expectEachTime((round) => createInClass('revoked', round), parts);
      await expectEachTime((round) => gated.site.cri.startContainer(created[round] ?? ''), parts);
      const pod = await gated.site.cri.runPod('still-ordinary', gated.site.reference('plain'));
      await gated.site.cri.removePod(pod.sandboxId);
    });

    test('with the agent away and containerd restarted the class starts nothing, and plain pods do', async () => {
      await gated.site.agent.kill();
      await gated.site.containerd.kill();
      await gated.site.containerd.start();
      const pod = await gated.site.cri.runPod('agent-away', gated.site.reference('plain'));
      await gated.site.cri.removePod(pod.sandboxId);
      expect(await refusalOf(createInClass('agent-away', 0))).toContain(
        gated.site.agent.paths.snapshotterSocket,
      );
      await gated.site.agent.start();
    });
  },
  // 1.6 has one snapshotter for all pods; the installer says so.
  ['1.7', '2'],
);
