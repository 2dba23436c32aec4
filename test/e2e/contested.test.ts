/** Several unpackings, images and clients want the same content at once; only those who may get it, in memory. */
import { randomBytes } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readImageGraph, platformImages } from '#src/image/image-graph.ts';
import { chainIds } from '#src/oci/chain-id.ts';
import { systemErrorCode } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf } from '#src/oci/digest.ts';
import { copyBlobs } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import { layerFromFiles } from '../../lab/layer-archive.ts';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { processesOf } from '../fakes/processes.ts';
import { GatedSite, SECRET, releaseSecretImage, secretLayer, until } from './gated-site.ts';

const MEBIBYTE = 1024 * 1024;
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';

describeOnEachContainerd('contested content', (containerd) => {
  let gated: GatedSite;
  let licenseId: string;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    licenseId = (await gated.activate()).license.id;
  });
  afterAll(async () => {
    await gated.stop();
  });

  async function chainsOf(name: string): Promise<string[]> {
    const [image] = platformImages(await readImageGraph(openLayout(gated.site.layout(name)), '1'));
    return chainIds(image?.config.rootfs.diff_ids ?? []);
  }

  /** Fetches an image without unpacking it, then opens an unpacking of its first secret layer by hand. */
  async function openByHand(name: string, key: string): Promise<void> {
    const image = gated.site.reference(name);
    expect((await gated.ctr('content', 'fetch', '--plain-http', image)).status).toBe(0);
    const [base = '', first = ''] = await chainsOf(name);
    const pulled = await gated.pullWithCtr('latchkey', gated.site.reference('plain'));
    expect(pulled.status).toBe(0);
    const prepared = await gated.ctr(
      'snapshots',
      '--snapshotter',
      'latchkey',
      'prepare',
      `${key} ${first}`,
      base,
    );
    expect(prepared.output).toBe('');
  }

  test('an unpacking that was left open does not let the next one out onto the disk', async () => {
    await releaseSecretImage(gated.site, 'stale', [secretLayer('stale')]);
    await openByHand('stale', 'extract-stale');
    expect((await gated.pullWithCtr('latchkey', gated.site.reference('stale'))).status).toBe(0);
    expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
    const { gatedLayers } = await gated.agent.status();
    const chains = await chainsOf('stale');
    expect(gatedLayers.map(({ chainId }) => chainId)).toContain(chains[1]);
  });

  test('a tenant who copies a layer into an image of his own gets neither key nor files', async () => {
    await releaseSecretImage(gated.site, 'victim', [secretLayer('victim')]);
    await openByHand('victim', 'extract-victim');
    const victim = openLayout(gated.site.layout('victim'));
    const { bytes } = await victim.readManifest('1');
    const manifest = JSON.parse(Buffer.from(bytes).toString()) as {
      config: Descriptor;
      layers: Descriptor[];
    };
    const [base, secret] = manifest.layers;
    if (base === undefined || secret === undefined) throw new Error('two layers are expected');
    const own = await layerFromFiles([{ path: 'own.txt', content: 'the tenant’s' }]);
    const config = await copiedConfig(victim, manifest.config, own.diffId);
    const ownLayer = {
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      digest: own.digest,
      size: own.bytes.length,
    };
    const junk = randomBytes(1000);
    const junkLayer = { ...ownLayer, digest: digestOf(junk), size: junk.length };
    // The second image claims the same chain for a plain layer, so that no license seems to be needed.
    await pushImage('tenant', config, [base, ownLayer, secret], [own.bytes], victim);
    await pushImage('tenant-twin', config, [base, ownLayer, junkLayer], [own.bytes, junk], victim);
    const twin = gated.site.reference('tenant-twin');
    expect((await gated.ctr('content', 'fetch', '--plain-http', twin)).status).toBe(0);
    const { status, output } = await gated.pullWithCtr('latchkey', gated.site.reference('tenant'));
    expect(status).not.toBe(0);
    expect(output).toContain('may not have its key');
    expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
  });

  test('a forged manifest does not stand in the way of the real image', async () => {
    await releaseSecretImage(gated.site, 'forged-first', [secretLayer('forged')]);
    const original = openLayout(gated.site.layout('forged-first'));
    const { bytes } = await original.readManifest('1');
    const manifest = JSON.parse(Buffer.from(bytes).toString()) as {
      config: Descriptor;
      layers: Descriptor[];
    };
    const junk = randomBytes(500);
    const layers = manifest.layers.map((layer, index) =>
      index === 0 ? layer : { ...layer, digest: digestOf(junk), size: junk.length },
    );
    await pushImage('forgery', manifest.config, layers, [junk], original);
    expect(
      (await gated.ctr('content', 'fetch', '--plain-http', gated.site.reference('forgery'))).status,
    ).toBe(0);
    expect((await gated.pullWithCtr('latchkey', gated.site.reference('forged-first'))).status).toBe(0);
  });

  test('a forged manifest does not gate a plain image', async () => {
    const huge = randomBytes(300);
    const plain = await layerFromFiles([{ path: 'plain.txt', content: 'nothing secret' }]);
    await gated.site.publish('innocent', '1', [gated.site.baseLayer, plain]);
    const innocent = openLayout(gated.site.layout('innocent'));
    const { bytes } = await innocent.readManifest('1');
    const manifest = JSON.parse(Buffer.from(bytes).toString()) as {
      config: Descriptor;
      layers: Descriptor[];
    };
    const acme = JSON.parse(
      Buffer.from((await openLayout(gated.site.layout('acme')).readManifest('1')).bytes).toString(),
    ) as { layers: Descriptor[] };
    const layers = manifest.layers.map((layer, index) =>
      index === 0 ? layer : { ...acme.layers[1], digest: digestOf(huge), size: huge.length },
    ) as Descriptor[];
    await pushImage('gating', manifest.config, layers, [huge], innocent);
    const forged = gated.site.reference('gating');
    expect((await gated.ctr('content', 'fetch', '--plain-http', forged)).status).toBe(0);
    expect((await gated.pullWithCtr('latchkey', gated.site.reference('innocent'))).status).toBe(0);
    const { gatedLayers } = await gated.agent.status();
    const chains = await chainsOf('innocent');
    expect(gatedLayers.map(({ chainId }) => chainId)).not.toContain(chains[1]);
  });

  test('what was committed from a gated container goes with the license', async () => {
    await gated.pullWithCtr();
    const top = (await chainsOf('acme')).at(-1) ?? '';
    const snapshots = (...args: string[]) => gated.ctr('snapshots', '--snapshotter', 'latchkey', ...args);
    expect((await snapshots('prepare', 'to-keep', top)).output).toBe('');
    expect((await snapshots('commit', 'kept', 'to-keep')).output).toBe('');
    expect((await snapshots('view', 'kept-view', 'kept')).status).toBe(0);
  });

  test('a start whose layers are being made when the revocation arrives is refused', async () => {
    const large = layerFromFiles([
      { path: 'large.bin', content: SECRET + randomBytes(8 * MEBIBYTE).toString('hex') },
    ]);
    await releaseSecretImage(gated.site, 'slow', [large]);
    const image = gated.site.reference('slow');
    await gated.site.cri.pullImage(image);
    const sandboxId = await gated.site.cri.runPodSandbox('slow');
    const { processorProgram } = gated.site.agent.paths;
    for (let attempt = 0, held: number[] = []; held.length === 0; attempt += 1) {
      const containerId = await gated.site.cri.createContainer(sandboxId, 'slow', image, [], attempt);
      await gated.agent.dropPlaintext();
      let told: string | undefined;
      const start = gated.site.cri.startContainer(containerId).then(
        () => (told = 'started'),
        (error: unknown) => (told = String(error)),
      );
      // The layer's processor is stopped in the middle. Where it was too quick, another start is tried.
      while (told === undefined && held.length === 0) {
        held = processesOf(processorProgram);
        signal(held, 'SIGSTOP');
        await nextTurn();
      }
      if (held.length > 0) {
        await gated.site.api.changeLicense(licenseId, 'revoke');
        await until(async () =>
          (await gated.agent.status()).licenses.every(({ state }) => state !== 'ACTIVE'),
        );
        expect(told).toBeUndefined();
        signal(held, 'SIGCONT');
      }
      expect(await start).toContain(held.length > 0 ? 'DENIED_LICENSE_REVOKED' : 'started');
    }
    await gated.site.cri.removePod(sandboxId);
  });

  test('what was unpacked and never committed is refused and dropped after a revocation', async () => {
    const [, first = ''] = await chainsOf('victim');
    const args = ['snapshots', '--snapshotter', 'latchkey', 'mounts', '/mnt', `extract-victim ${first}`];
    const { status, output } = await gated.ctr(...args);
    expect(status).not.toBe(0);
    expect(output).toContain('DENIED_LICENSE_REVOKED');
    await gated.agent.dropPlaintext();
    expect(await filesContaining([gated.site.agent.paths.memoryDirectory], SECRET)).toEqual([]);
    const kept = await gated.ctr('snapshots', '--snapshotter', 'latchkey', 'view', 'kept-again', 'kept');
    expect(kept.output).toContain('DENIED_LICENSE_REVOKED');
  });

  /** The victim's config with one more diff ID before the secret one. */
  async function copiedConfig(
    from: ReturnType<typeof openLayout>,
    config: Descriptor,
    diffId: string,
  ): Promise<Descriptor & { bytes: Buffer }> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of from.openBlob(config)) chunks.push(chunk);
    const parsed = JSON.parse(Buffer.concat(chunks).toString()) as {
      rootfs: { diff_ids: string[] };
      history: unknown[];
    };
    parsed.rootfs.diff_ids.splice(1, 0, diffId);
    parsed.history.push({});
    const bytes = Buffer.from(JSON.stringify(parsed));
    return { mediaType: config.mediaType, digest: digestOf(bytes), size: bytes.length, bytes };
  }

  async function pushImage(
    name: string,
    config: Descriptor & { bytes?: Buffer },
    layers: readonly Descriptor[],
    own: readonly Buffer[],
    from: ReturnType<typeof openLayout>,
  ): Promise<void> {
    const layout = openLayout(gated.site.layout(name));
    const { bytes: configBytes, ...configDescriptor } = config;
    const ours = [...own, ...(configBytes === undefined ? [] : [configBytes])];
    for (const bytes of ours) {
      const descriptor = {
        mediaType: 'application/octet-stream',
        digest: digestOf(bytes),
        size: bytes.length,
      };
      await layout.writeBlob(descriptor, async function* () {
        yield bytes;
      });
    }
    const ownDigests = new Set(ours.map((bytes) => digestOf(bytes)));
    const copied = [configDescriptor, ...layers].filter(({ digest }) => !ownDigests.has(digest));
    await copyBlobs(from, layout, copied);
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST_TYPE, config: configDescriptor, layers }),
    );
    await layout.writeManifest(
      { descriptor: { mediaType: MANIFEST_TYPE, digest: digestOf(bytes), size: bytes.length }, bytes },
      '1',
    );
    await gated.site.push(name, '1');
  }
});

/** One that has ended meanwhile is none. */
function signal(processes: readonly number[], name: 'SIGSTOP' | 'SIGCONT'): void {
  for (const id of processes) {
    try {
      process.kill(id, name);
    } catch (error) {
      if (systemErrorCode(error) !== 'ESRCH') throw error;
    }
  }
}
