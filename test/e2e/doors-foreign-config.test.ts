/**
 * A tenant without root, who may push images and create pods, wraps a config of his own around a released image that is
 * opened on a licensed node. containerd takes the opened layers for his; what is refused is the start.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { machineArchitecture } from '../../lab/image-builder.ts';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { type Material, pushForged, pushIndex } from './forged-image.ts';
import { CONTACT, GatedSite, SECRET, refusalOf } from './gated-site.ts';

/** What else containerd runs on a machine, after its own kind. */
const COMPATIBLE = machineArchitecture() === 'arm64' ? 'arm' : '386';

describeOnEachContainerd('a foreign config', (containerd) => {
  let gated: GatedSite;
  let licenseId: string;
  let sandboxId: string;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    licenseId = (await gated.activate()).license.id;
    await gated.site.cri.pullImage(gated.image);
    sandboxId = await gated.site.cri.runPodSandbox('tenant');
    await gated.site.cri.startContainer(await gated.site.cri.createContainer(sandboxId, 'true', gated.image));
  });
  afterAll(async () => {
    await gated.stop();
  });

  const withConfig =
    (change: object) =>
    ({ layers, config }: Material): Material => ({
      layers,
      config: { ...config, config: { ...config.config, ...change } },
    });
  const CAT = { Cmd: ['/bin/busybox', 'cat', '/app/one.txt'] };

  function expectRefusal(text: string): void {
    expect(text).toContain('DENIED_IMAGE_ALTERED');
    expect(text).toContain(licenseId);
    expect(text).toContain(CONTACT);
    expect(text).not.toContain(SECRET);
  }

  const voluminous = withConfig({ Volumes: { '/app': {} } });

  test.each([
    ['plainly', voluminous],
    // Go lays the second over the first, which others take for replaced.
    [
      'in two keys of one name',
      (material: Material): Material => {
        const forged = voluminous(material);
        return { ...forged, configText: JSON.stringify(forged.config).replace(/\}$/, ',"config":{}}') };
      },
    ],
  ])(
    'that declares volumes %s does not have them filled on the disk before its start is refused',
    async (way, forge) => {
      const name = `voluminous-${way.replaceAll(' ', '-')}`;
      await pushForged(gated.site, 'acme', name, forge);
      const image = gated.site.reference(name);
      await gated.site.cri.pullImage(image);
      expectRefusal(await refusalOf(gated.site.cri.createContainer(sandboxId, name, image)));
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
      await gated.site.cri.removeImage(image);
      await gated.site.cri.createContainer(sandboxId, `true-after-${name}`, gated.image);
    },
  );

  test('does not start under a name that has been moved to the true image meanwhile', async () => {
    const descriptor = await pushForged(gated.site, 'acme', 'moving', withConfig(CAT));
    expect(descriptor.digest).not.toBe(gated.release.imageDigest);
    const image = gated.site.reference('moving');
    await gated.site.cri.pullImage(image);
    const containerId = await gated.site.cri.createContainer(sandboxId, 'moving', image);
    await gated.site.pushAs('acme', '1', 'moving');
    await gated.site.cri.pullImage(image);
    expectRefusal(await refusalOf(gated.site.cri.startContainer(containerId)));
  });

  test('does not start as another platform that this machine runs as well', async () => {
    await pushForged(gated.site, 'acme', 'compatible-manifest', withConfig(CAT));
    await pushIndex(gated.site, 'compatible', [
      { from: 'compatible-manifest', platform: { os: 'linux', architecture: COMPATIBLE } },
      { from: 'acme' },
    ]);
    const image = gated.site.reference('compatible');
    await gated.site.cri.pullImage(image);
    expectRefusal(await refusalOf(gated.site.cri.runPod('compatible', image)));
  });
});
