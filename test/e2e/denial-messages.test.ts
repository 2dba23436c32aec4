/** Every denial reaches whoever started the container, in one line, every time. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeOnEachContainerd } from './each-containerd.ts';
import { CONTACT, GatedSite, until } from './gated-site.ts';
import { ROUNDS, expectEachTime } from './refused-each-time.ts';

describeOnEachContainerd('the message of a denial', (containerd) => {
  let gated: GatedSite;
  let licenseId: string;
  let sandboxId: string;
  const created: string[] = [];

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    await gated.site.cri.pullImage(gated.site.reference('plain'));
  });
  afterAll(async () => {
    await gated.stop();
  });

  test('comes 50 of 50 times from PullImage on a node without a license', async () => {
    await expectEachTime(
      () => gated.site.cri.pullImage(gated.image),
      () => ['DENIED_NODE_NOT_ACTIVATED', 'no license', 'latchkey node activate', CONTACT],
    );
  });

  test('comes 50 of 50 times from CreateContainer after a revocation', async () => {
    licenseId = (await gated.activate()).license.id;
    await gated.site.cri.pullImage(gated.image);
    sandboxId = await gated.site.cri.runPodSandbox('denied');
    await gated.pullWithCtr();
    for (let round = 0; round < ROUNDS; round += 1) {
      created.push(await gated.site.cri.createContainer(sandboxId, 'created', gated.image, [], round));
    }
    await gated.site.api.changeLicense(licenseId, 'revoke');
    await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
    await expectEachTime(
      (round) => gated.site.cri.createContainer(sandboxId, 'denied', gated.image, [], round),
      () => ['DENIED_LICENSE_REVOKED', licenseId, 'is revoked', CONTACT],
    );
  });

  test('comes 50 of 50 times from StartContainer after a revocation', async () => {
    await expectEachTime(
      (round) => gated.site.cri.startContainer(created[round] ?? ''),
      () => ['DENIED_LICENSE_REVOKED', licenseId, 'is revoked', CONTACT],
    );
  });

  test('comes 50 of 50 times where only the stream processor can speak', async () => {
    const denied = ['DENIED_FOREIGN_UNPACK', licenseId, CONTACT];
    let collected = 0;
    await expectEachTime(
      async (round) => {
        for (let attempt = 0; ; attempt += 1) {
          const { status, output } = await gated.runWithCtr(`foreign-${round}-${attempt}`, 'overlayfs');
          if (status === 0) return output;
          // containerd 1.6 may be collecting the base of the attempt before; that has nothing to do with us.
          if (output.includes('does not exist: not found')) collected += 1;
          // ctr logs that it cleans up before it says why.
          else throw new Error(output.trim().split('\n').at(-1));
        }
      },
      () => denied,
    );
    expect(collected).toBeLessThan(ROUNDS);
  });
});
