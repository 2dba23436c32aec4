/**
 * What root can do on a licensed node while a layer is being unpacked for a true image: a stream processor does not say
 * for whom it works, so whoever has containerd's API may take the one key of that unpacking. The threat model says so;
 * here it is tried, hard, and what must hold all the same is checked: one key for one unpacking, nothing false committed,
 * nothing on the disk but where root himself has put it.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { chainIds } from '#src/oci/chain-id.ts';
import { isDigest } from '#src/oci/digest.ts';
import { openLayout } from '#src/store/layout.ts';
import { layerFromFiles } from '../../lab/layer-archive.ts';
import { filesContaining } from '../../lab/site.ts';
import { ContainerdConnection } from '../../shim/containerd/connection.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, releaseSecretImage, until } from './gated-site.ts';

const MEBIBYTE = 1024 * 1024;
const ROUNDS = 5;
const THIEVES = 4;

describeOnEachContainerd('a race for the key of an unpacking', (containerd) => {
  let gated: GatedSite;
  let connection: ContainerdConnection;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    connection = new ContainerdConnection(gated.site.containerd.address);
    await gated.activate();
    const noise = randomBytes(4 * MEBIBYTE).toString('hex');
    await releaseSecretImage(gated.site, 'raced', [
      layerFromFiles([{ path: 'app/one.txt', content: SECRET + noise }]),
    ]);
  });
  afterAll(async () => {
    connection.close();
    await gated.stop();
  });

  /** Diff.Apply of the secret layer onto a directory on the disk; true when it gave plaintext. */
  async function steal(layer: Descriptor, target: string): Promise<boolean> {
    const { diff } = connection.clients;
    const request = {
      diff: { mediaType: layer.mediaType, digest: layer.digest, size: layer.size, annotations: {} },
      mounts: [{ type: 'bind', source: target, target: '', options: ['rw', 'rbind'] }],
      payloads: {},
    };
    return connection.call(diff.apply.bind(diff), request, 'default').then(
      () => true,
      () => false,
    );
  }

  test('gives one key for one unpacking, and never a false image', async () => {
    const image = gated.site.reference('raced');
    const { bytes } = await openLayout(gated.site.layout('raced')).readManifest('1');
    const { layers } = JSON.parse(Buffer.from(bytes).toString()) as { layers: Descriptor[] };
    const secret = layers.at(-1)!;
    for (let round = 0; round < ROUNDS; round += 1) {
      await gated.ctr('images', 'remove', '--sync', image);
      expect((await gated.ctr('content', 'fetch', '--plain-http', image)).status).toBe(0);
      const loot = join(gated.site.directory, 'loot');
      let isPulling = true;
      const thieves = Array.from({ length: THIEVES }, async (_, thief) => {
        const target = join(loot, String(thief));
        await mkdir(target, { recursive: true });
        let taken = 0;
        while (isPulling) if (await steal(secret, target)) taken += 1;
        return taken;
      });
      const pulled = await gated.pullWithCtr('latchkey', image);
      isPulling = false;
      const taken = (await Promise.all(thieves)).reduce((sum, count) => sum + count, 0);
      // Either the image got the key or a thief did, never both.
      expect(taken).toBe(pulled.status === 0 ? 0 : 1);
      if (taken === 0) expect(await filesContaining([loot], SECRET)).toEqual([]);
      await rm(loot, { recursive: true });
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
    }
    expect((await gated.pullWithCtr('latchkey', image)).status).toBe(0);
    const { output } = await gated.printWithCtr('after-race', image, '/app/one.txt');
    expect(output).toContain(SECRET);
  });

  test('is not needed by root with a license, who opens an unpacking himself; after the revocation he cannot', async () => {
    const [image] = platformImages(await readImageGraph(openLayout(gated.site.layout('raced')), '1'));
    const [base = '', top = ''] = chainIds(image!.diffIds.filter(isDigest));
    const loot = join(gated.site.directory, 'loot');
    await mkdir(loot);
    const open = (key: string) =>
      gated.ctr('snapshots', '--snapshotter', 'latchkey', 'prepare', `extract-${key} ${top}`, base);
    expect(await open('mine')).toMatchObject({ status: 0 });
    expect(await steal(image!.manifest.layers.at(-1)!, loot)).toBe(true);
    expect(await filesContaining([loot], SECRET)).toHaveLength(1);
    expect(await steal(image!.manifest.layers.at(-1)!, loot)).toBe(false);
    await gated.revokeAll();
    await until(async () => (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'));
    expect((await open('again')).output).toContain('DENIED_LICENSE_REVOKED');
    await rm(loot, { recursive: true });
    expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
  });
});
