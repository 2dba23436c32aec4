/** Whatever a layer is packed with: gated, decrypted to memory only, and run. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, refusalOf, releaseSecretImage, secretLayer } from './gated-site.ts';

describeOnEachContainerd('layers of every type', (containerd) => {
  let gated: GatedSite;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    await releaseSecretImage(gated.site, 'mixed', [
      secretLayer('one', 'zstd'),
      secretLayer('two', 'none'),
      secretLayer('three', 'gzip'),
    ]);
  });
  afterAll(async () => {
    await gated.stop();
  });

  test('are refused without a license', async () => {
    const refusal = await refusalOf(gated.site.cri.pullImage(gated.site.reference('mixed')));
    expect(refusal).toContain('DENIED_NODE_NOT_ACTIVATED');
  });

  test('run with one, over CRI', async () => {
    await gated.activate();
    const image = gated.site.reference('mixed');
    await gated.site.cri.pullImage(image);
    const pod = await gated.site.cri.runPod('mixed', image);
    const paths = ['one', 'two', 'three'].map((name) => `/app/${name}.txt`);
    const { output } = await gated.site.cri.execSync(pod.containerId, ['/bin/busybox', 'cat', ...paths]);
    for (const name of ['one', 'two', 'three']) expect(output).toContain(`${SECRET} ${name}`);
    await gated.site.cri.removePod(pod.sandboxId);
    expect(
      await filesContaining([gated.site.containerd.root, gated.site.agent.stateDirectory], SECRET),
    ).toEqual([]);
  });

  test('run with one, after a pull with ctr', async () => {
    const image = gated.site.reference('mixed');
    await gated.ctr('images', 'rm', '--sync', image);
    expect(await gated.pullWithCtr('latchkey', image)).toMatchObject({ status: 0 });
    const { output } = await gated.runWithCtr('mixed-ctr', 'latchkey', image);
    expect(output).toContain(`${SECRET} one`);
  });

  test('are refused once the license is revoked, although pulled', async () => {
    await gated.revokeAll();
    const { status, output } = await gated.runWithCtr(
      'mixed-revoked',
      'latchkey',
      gated.site.reference('mixed'),
    );
    expect(status).not.toBe(0);
    expect(output).toContain('DENIED_LICENSE_REVOKED');
  });
});
