/** Images that are not encrypted are none of our business, whatever they share with one that is. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { layerFromFiles } from '../../lab/layer-archive.ts';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, refusalOf, releaseSecretImage, secretLayer, until } from './gated-site.ts';

describeOnEachContainerd('plain images', (containerd) => {
  let gated: GatedSite;
  let licenseId: string;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    licenseId = (await gated.activate()).license.id;
    // The shared base is first unpacked for the encrypted image.
    await gated.site.cri.pullImage(gated.image);
    await gated.site.cri.removePod((await gated.site.cri.runPod('first', gated.image)).sandboxId);
    await gated.site.api.changeLicense(licenseId, 'revoke');
    await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
  });
  afterAll(async () => {
    await gated.stop();
  });

  test('an image on the same base, and the sandbox, start after the revocation', async () => {
    await gated.site.cri.pullImage(gated.site.reference('plain'));
    const pod = await gated.site.cri.runPod('plain', gated.site.reference('plain'));
    await gated.site.cri.removePod(pod.sandboxId);
    await refusalOf(gated.site.cri.runPod('gated', gated.image));
  });

  test('a base layer is an ordinary directory on the disk', async () => {
    const [found] = await filesContaining([gated.site.agent.paths.diskDirectory], 'BusyBox v1.');
    expect(found).toContain('/bin/busybox');
  });

  test('a plain layer above gated ones is gated with them', async () => {
    const license = await gated.activate();
    const notes = layerFromFiles([{ path: 'notes.txt', content: 'nothing secret' }]);
    await releaseSecretImage(gated.site, 'mixed', [secretLayer('mixed'), notes]);
    await gated.site.cri.pullImage(gated.site.reference('mixed'));
    await gated.site.api.changeLicense(license.license.id, 'revoke');
    await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
    expect(await refusalOf(gated.site.cri.runPod('mixed', gated.site.reference('mixed')))).toContain(
      'DENIED_LICENSE_REVOKED',
    );
  });

  describe('an unencrypted twin of an encrypted layer', () => {
    const twin = 'the twin is public';

    test('does not open the encrypted image, because that is salted', async () => {
      const layers = [layerFromFiles([{ path: 'app/one.txt', content: `${SECRET} ${twin}` }])];
      await releaseSecretImage(gated.site, 'salted', layers);
      // The ISV's own unencrypted build of the same layers, pulled by somebody on the same node.
      await gated.site.push('salted-plain', '1');
      await gated.site.cri.pullImage(gated.site.reference('salted-plain'));
      const pod = await gated.site.cri.runPod('salted-plain', gated.site.reference('salted-plain'));
      await gated.site.cri.removePod(pod.sandboxId);
      expect(await refusalOf(gated.site.cri.pullImage(gated.site.reference('salted')))).toContain(
        'DENIED_LICENSE_REVOKED',
      );
    });

    test('of a foreign, unsalted image starts on its own account and is never gated', async () => {
      const layers = [layerFromFiles([{ path: 'app/one.txt', content: `${twin}, without salt` }])];
      await releaseSecretImage(gated.site, 'unsalted', layers, { isSalted: false });
      await refusalOf(gated.site.cri.pullImage(gated.site.reference('unsalted')));
      await gated.site.push('unsalted-plain', '1');
      await gated.site.cri.pullImage(gated.site.reference('unsalted-plain'));
      const pod = await gated.site.cri.runPod('unsalted-plain', gated.site.reference('unsalted-plain'));
      await gated.site.cri.removePod(pod.sandboxId);
    });
  });

  test('an image with a copied config and foreign layers shows nobody the decrypted files', async () => {
    const attack = await gated.copyConfigWithForeignLayers('attack');
    const refusal = await refusalOf(
      gated.site.cri.pullImage(attack).then(() => gated.site.cri.runPod('attack', attack)),
    );
    expect(refusal).toContain('DENIED_LICENSE_REVOKED');
  });
});
