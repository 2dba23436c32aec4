/** Somebody tampers with images, blobs and processes of a licensed node; full stores and crashes do their part. */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestHex, digestOf, parseDigest } from '#src/oci/digest.ts';
import { copyBlobs } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import { layerFromFiles } from '../../lab/layer-archive.ts';
import { filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, refusalOf, releaseSecretImage, secretLayer } from './gated-site.ts';

const MEBIBYTE = 1024 * 1024;

interface Manifest {
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

describeOnEachContainerd('attacks on a licensed node', (containerd) => {
  let gated: GatedSite;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    await gated.activate();
  });
  afterAll(async () => {
    await gated.stop();
  });

  /** Pushes the released image with its manifest changed; the layers' bytes stay as they are. */
  async function pushForged(name: string, forge: (manifest: Manifest) => Manifest): Promise<string> {
    const original = openLayout(gated.site.layout('acme'));
    const { bytes } = await original.readManifest('1');
    const manifest = JSON.parse(Buffer.from(bytes).toString()) as Manifest;
    const forgedLayout = openLayout(gated.site.layout(name));
    await copyBlobs(original, forgedLayout, [manifest.config, ...manifest.layers]);
    const forged = Buffer.from(JSON.stringify(forge(manifest)));
    const mediaType = 'application/vnd.oci.image.manifest.v1+json';
    const descriptor = { mediaType, digest: digestOf(forged), size: forged.length };
    await forgedLayout.writeManifest({ descriptor, bytes: forged }, '1');
    await gated.site.push(name, '1');
    return gated.site.reference(name);
  }

  test('a manifest that the vendor did not register gets no key', async () => {
    const swapped = await pushForged('swapped', (manifest) => {
      const [base, one, two] = manifest.layers;
      if (base === undefined || one === undefined || two === undefined)
        throw new Error('three layers are expected');
      // Each keeps its bytes and gets the other's wrapped key.
      return {
        ...manifest,
        layers: [base, { ...one, annotations: two.annotations }, { ...two, annotations: one.annotations }],
      };
    });
    expect(await refusalOf(gated.site.cri.pullImage(swapped))).toContain('DENIED_IMAGE_UNKNOWN');
  });

  test('a changed nonce in the public options gets no key either', async () => {
    const nonced = await pushForged('nonced', (manifest) => ({
      ...manifest,
      layers: manifest.layers.map((layer) => withPublicNonce(layer)),
    }));
    expect(await refusalOf(gated.site.cri.pullImage(nonced))).toContain('DENIED_');
  });

  test('a blob that was changed on the disk does not start, and the true one does again', async () => {
    const noise = layerFromFiles([
      { path: 'app/noise.bin', content: SECRET + randomBytes(MEBIBYTE).toString('hex') },
    ]);
    await releaseSecretImage(gated.site, 'noisy', [noise]);
    const image = gated.site.reference('noisy');
    await gated.site.cri.pullImage(image);
    await gated.agent.dropPlaintext();
    const layer = (await gated.agent.status()).gatedLayers.at(-1);
    const hex = digestHex(parseDigest(layer?.layerDigest));
    const path = join(gated.site.containerd.root, 'io.containerd.content.v1.content/blobs/sha256', hex);
    const good = await readFile(path);
    const bad = (position: number): Buffer => {
      const bytes = Buffer.from(good);
      bytes[position] = (bytes[position] ?? 0) ^ 1;
      return bytes;
    };
    // Written over the same inode: containerd keeps blobs read-only, root does not care.
    await writeFile(path, bad(good.length >> 1));
    // Where the flipped bit breaks the compression, containerd may stop before the MAC is reached.
    expect(await refusalOf(gated.site.cri.runPod('flipped', image))).toMatch(
      /CRYPTO_AUTHENTICATION_FAILED|flate: corrupt input/u,
    );
    await writeFile(path, bad(0));
    expect(await refusalOf(gated.site.cri.runPod('flipped-head', image))).toContain(
      'was changed on this node',
    );
    await writeFile(path, good.subarray(0, good.length - 10));
    await refusalOf(gated.site.cri.runPod('truncated', image));
    expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
    await writeFile(path, good);
    const pod = await gated.site.cri.runPod('mended', image);
    await gated.site.cri.removePod(pod.sandboxId);
  });

  test('an agent killed in the middle of a pull leaves nothing behind that matters', async () => {
    const large = layerFromFiles([
      { path: 'large.bin', content: `${SECRET}${randomBytes(24 * MEBIBYTE).toString('hex')}` },
    ]);
    await releaseSecretImage(gated.site, 'large', [secretLayer('under'), large]);
    for (let round = 1; round <= 3; round += 1) {
      const pull = gated.site.cri.pullImage(gated.site.reference('large'));
      pull.catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 60 * round));
      await gated.site.agent.kill();
      await gated.site.agent.start();
      await pull.catch(() => undefined);
      expect(await filesContaining([gated.site.directory], SECRET)).toEqual([]);
    }
    await retry(() => gated.site.cri.pullImage(gated.site.reference('large')));
    const pod = await gated.site.cri.runPod('large', gated.site.reference('large'));
    const { output } = await gated.site.cri.execSync(pod.containerId, [
      '/bin/busybox',
      'head',
      '-c',
      '26',
      '/large.bin',
    ]);
    expect(output).toBe(SECRET);
    await gated.site.cri.removePod(pod.sandboxId);
  });
});

describeOnEachContainerd('a full plaintext store', (containerd) => {
  let gated: GatedSite;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd, agentSettings: { plaintext_capacity: '4m' } });
    await gated.activate();
  });
  afterAll(async () => {
    await gated.stop();
  });

  test('refuses what does not fit and says what to do; what fits goes on', async () => {
    const noise = randomBytes(4 * MEBIBYTE).toString('hex');
    await releaseSecretImage(gated.site, 'huge', [layerFromFiles([{ path: 'huge.txt', content: noise }])]);
    const refusal = await refusalOf(gated.site.cri.pullImage(gated.site.reference('huge')));
    expect(refusal).toContain('STORAGE_FULL');
    expect(refusal).toContain('plaintext_capacity');
    // containerd may be collecting the base layer of the pull that failed; a kubelet tries again, too.
    await retry(() => gated.site.cri.pullImage(gated.image));
    const pod = await gated.site.cri.runPod('fits', gated.image);
    await gated.site.cri.removePod(pod.sandboxId);
  });

  test('a layer that would only turn out too large is refused in words, and leaves room for others', async () => {
    // Compresses to nothing, so that only unpacking shows its size.
    const zeros = layerFromFiles([{ path: 'zeros.txt', content: '0'.repeat(16 * MEBIBYTE) }]);
    await releaseSecretImage(gated.site, 'inflating', [zeros]);
    const refusal = await refusalOf(gated.site.cri.pullImage(gated.site.reference('inflating')));
    expect(refusal).toContain('STORAGE_FULL');
    expect(refusal).toContain('has no room for a layer: at least 17 MiB are needed');
    expect(refusal).toContain('raise plaintext_capacity');
    const pod = await gated.site.cri.runPod('fits-still', gated.image);
    await gated.site.cri.removePod(pod.sandboxId);
  });
});

function withPublicNonce(layer: Descriptor): Descriptor {
  const key = 'org.opencontainers.image.enc.pubopts';
  const encoded = layer.annotations?.[key];
  if (encoded === undefined) return layer;
  const options = JSON.parse(Buffer.from(encoded, 'base64').toString()) as Record<string, unknown>;
  const changed = { ...options, cipheroptions: { nonce: Buffer.alloc(16).toString('base64') } };
  const annotations = {
    ...layer.annotations,
    [key]: Buffer.from(JSON.stringify(changed)).toString('base64'),
  };
  return { ...layer, annotations };
}

/** containerd's connection to a snapshotter that was restarted comes back within its own backoff. */
async function retry<Result>(call: () => Promise<Result>): Promise<Result> {
  for (;;) {
    try {
      return await call();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}
