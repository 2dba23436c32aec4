/** containerd 2.1 and later mount an image into a container as a volume: a way to its files without a start. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { containerdSkipReason } from '../../lab/containerd-versions.ts';
import { filesContaining } from '../../lab/site.ts';
import { pushForged } from './forged-image.ts';
import { CONTACT, GatedSite, SECRET, refusalOf, siteSkipReason, until } from './gated-site.ts';

const skipReason = siteSkipReason() ?? containerdSkipReason('2');
const title = 'an image as a volume on containerd 2';

describe.skipIf(skipReason !== undefined)(
  `${title}${skipReason === undefined ? '' : `: ${skipReason}`}`,
  () => {
    let gated: GatedSite;
    let licenseId: string;
    let sandboxId: string;

    beforeAll(async () => {
      gated = await GatedSite.start({ containerd: '2' });
      licenseId = (await gated.activate()).license.id;
      for (const image of [gated.image, gated.site.reference('plain')]) await gated.site.cri.pullImage(image);
      sandboxId = await gated.site.cri.runPodSandbox('volume');
    });
    afterAll(async () => {
      await gated.stop();
    });

    /** A plain container with an image below /volume; gives what it reads there. */
    async function readFrom(image: string, name: string): Promise<string> {
      const { cri } = gated.site;
      const plain = gated.site.reference('plain');
      const containerId = await cri.createContainer(sandboxId, name, plain, [], 0, { '/volume': image });
      await cri.startContainer(containerId);
      const { output } = await cri.execSync(containerId, ['/bin/busybox', 'cat', '/volume/app/one.txt']);
      await cri.stopContainer(containerId);
      await cri.removeContainer(containerId);
      return output;
    }

    test('is not to be had, neither the true one nor a stranger’s around the same layers, also when tried again', async () => {
      await pushForged(gated.site, 'acme', 'forged', ({ layers, config }) => ({
        layers,
        config: { ...config, config: { ...config.config, Cmd: ['/bin/true'] } },
      }));
      const forged = gated.site.reference('forged');
      await gated.site.cri.pullImage(forged);
      for (const image of [gated.image, forged]) {
        for (const name of ['once', 'twice']) {
          const refusal = await refusalOf(readFrom(image, `${name}-${image.includes('forged') ? 'f' : 't'}`));
          expect(refusal).toContain('failed to mount image volume');
          expect(refusal).not.toContain(SECRET);
        }
      }
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
    });

    test('of a plain image is', async () => {
      const plain = gated.site.reference('plain');
      const { cri } = gated.site;
      const containerId = await cri.createContainer(sandboxId, 'plain', plain, [], 0, { '/volume': plain });
      await cri.startContainer(containerId);
      const { output } = await cri.execSync(containerId, ['/bin/busybox', 'ls', '/volume/bin/busybox']);
      expect(output).toContain('/volume/bin/busybox');
    });

    test('after a revocation is refused', async () => {
      await gated.revokeAll();
      await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
      const refusal = await refusalOf(readFrom(gated.image, 'revoked'));
      expect(refusal).toContain('DENIED_LICENSE_REVOKED');
      expect(refusal).toContain(licenseId);
      expect(refusal).toContain(CONTACT);
    });
  },
);
