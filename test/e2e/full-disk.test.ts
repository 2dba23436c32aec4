/** A disk under the node is full, the agent's or containerd's: it is said, and all is well once there is room again. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { layerFromFiles } from '../../lab/layer-archive.ts';
import { NodeInvariants } from '../crash/node-invariants.ts';
import { type SmallDisk, mountSmallDisk } from '../fakes/small-disk.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, releaseSecretImage, until } from './gated-site.ts';

const MEBIBYTE = 1024 * 1024;
const LAYER_BYTES = 4 * MEBIBYTE;
/** As the agent and the kernel say it. */
const SAID = /STORAGE_FULL|no space left on device/i;
/** containerd's database has pages of its own to spare, and then a container starts all the same. */
const SAID_OR_DONE = new RegExp(`${SAID.source}|${SECRET}`, 'i');
const DISKS = { "the agent's": 'a/state', "containerd's": 'c/root' } as const;

describeOnEachContainerd('a full disk', (containerd) => {
  let gated: GatedSite;
  const disks = new Map<string, SmallDisk>();

  beforeAll(async () => {
    gated = await GatedSite.start({
      containerd,
      prepare: (directory) => {
        for (const place of Object.values(DISKS))
          disks.set(place, mountSmallDisk('48m', join(directory, place))!);
      },
    });
    await gated.activate();
  });
  afterAll(async () => {
    await gated.stop();
  });

  test.each(Object.entries(DISKS))('that is %s', async (_, place) => {
    const disk = disks.get(place)!;
    const makeRoom = (): void => rmSync(join(disk.directory, 'ballast'));
    const name = `in-${place.replace('/', '-')}`;
    const image = gated.site.reference(name);
    // Plain ones are unpacked to the agent's disk, and all of them come by containerd's.
    const noise = { path: 'app/noise.bin', content: randomBytes(LAYER_BYTES).toString('latin1') };
    const one = { path: 'app/one.txt', content: `${SECRET} one\n` };
    await releaseSecretImage(gated.site, name, [layerFromFiles([noise, one])]);
    const invariants = new NodeInvariants(gated);

    await disk.fill('ballast', place === DISKS["containerd's"] ? LAYER_BYTES / 2 : MEBIBYTE / 2);
    const pulled = await gated.pullWithCtr('latchkey', image);
    expect(pulled.output).toMatch(SAID);
    makeRoom();
    expect((await gated.pullWithCtr('latchkey', image)).status).toBe(0);
    await invariants.check();

    await disk.fill('ballast');
    const refused = await gated.runWithCtr(`${name}-refused`, 'latchkey', image);
    if (place === DISKS["containerd's"]) expect(refused.output).toMatch(SAID_OR_DONE);
    else
      expect(refused.output).toContain(
        `STORAGE_FULL: the disk of ${gated.site.agent.paths.journalFile} is full`,
      );
    await gated.agent.status();
    makeRoom();
    expect((await gated.runWithCtr(`${name}-started`, 'latchkey', image)).output).toContain(SECRET);

    await gated.site.agent.stop();
    await gated.site.agent.start();
    await until(async () => (await gated.ctr('snapshots', '--snapshotter', 'latchkey', 'list')).status === 0);
    await gated.site.containerd.collectGarbage();
    await invariants.check();
    await invariants.checkAgreement();
    expect((await gated.runWithCtr(`${name}-again`, 'latchkey', image)).output).toContain(SECRET);
  });
});
