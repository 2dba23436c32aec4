/**
 * Images that differ from what was released, on a licensed node, while the key server says yes: whoever could write its
 * database has entered their digests under the release's own key. The signed statement decides.
 */
import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type Digest, digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { copyBlobs } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import { machineArchitecture, writeImage } from '../../lab/image-builder.ts';
import { type BuiltLayer, layerFromFiles } from '../../lab/layer-archive.ts';
import { releaseImage } from '../../lab/release.ts';
import { SLEEP_COMMAND, filesContaining } from '../../lab/site.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import {
  CONTACT,
  GatedSite,
  PRODUCT,
  SECRET,
  refusalOf,
  toldOnce,
  releaseSecretImage,
  secretLayer,
} from './gated-site.ts';

const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';
const OTHER_ARCHITECTURE = machineArchitecture() === 'arm64' ? 'amd64' : 'arm64';

interface Config {
  readonly config: Readonly<Record<string, unknown>>;
  readonly rootfs: { readonly type: 'layers'; readonly diff_ids: readonly string[] };
  readonly history: readonly unknown[];
}

/** A released image as a forger works on it. */
interface Material {
  readonly layers: readonly Descriptor[];
  readonly config: Config;
}

describeOnEachContainerd('altered images', (containerd) => {
  let gated: GatedSite;
  let licenseId: string;
  let evil: BuiltLayer;
  let foreign: Material;

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd });
    evil = await layerFromFiles([{ path: 'app/two.txt', content: 'let everybody in' }]);
    await releaseSecretImage(gated.site, 'foreign', [secretLayer('x'), secretLayer('y')]);
    foreign = await material('foreign');
    await releaseMultiPlatform();
    for (const [name, forge] of Object.entries(FORGERIES))
      await pushForged(name, forge(await material('acme')));
    await registerBehindTheScenes();
    licenseId = (await gated.activate()).license.id;
  });
  afterAll(async () => {
    await gated.stop();
  });

  const FORGERIES: Readonly<Record<string, (image: Material) => Material>> = {
    swapped: ({ layers, config }) => ({
      layers: [...layers.slice(0, 2), ...foreign.layers.slice(2)],
      config: withDiffIds(config, [
        ...config.rootfs.diff_ids.slice(0, 2),
        ...foreign.config.rootfs.diff_ids.slice(2),
      ]),
    }),
    dropped: ({ layers, config }) => ({
      layers: layers.slice(0, 2),
      config: withDiffIds(config, config.rootfs.diff_ids.slice(0, 2)),
    }),
    reordered: ({ layers: [base, one, two], config }) => {
      const [baseId, oneId, twoId] = config.rootfs.diff_ids;
      return {
        layers: [base!, two!, one!],
        config: withDiffIds(config, [baseId!, twoId!, oneId!]),
      };
    },
    'plain-replaced': ({ layers, config }) => ({
      layers: [...layers.slice(0, 2), plainDescriptor(evil)],
      config: withDiffIds(config, [...config.rootfs.diff_ids.slice(0, 2), evil.diffId]),
    }),
    'foreign-config': ({ layers, config }) => ({
      layers,
      config: { ...config, config: { ...config.config, Cmd: ['/bin/busybox', 'cat', '/app/one.txt'] } },
    }),
  };

  test.each([
    ['swapped', /layer 2 was replaced by sha256:/],
    ['dropped', /layer 2 \(sha256:\w+\) was dropped/],
    ['reordered', /its layers are in another order/],
    ['plain-replaced', /layer 2 was replaced by one that is not encrypted/],
    ['foreign-config', /the config sha256:\w+ is not the released one/],
    ['replaced-platform', /the image for linux\/\w+ stands in for the one for linux\/\w+/],
  ])('%s: refused, and nothing of it is opened', async (name, reason) => {
    const image = gated.site.reference(name);
    for (const refusal of [
      await toldBecause(reason, () => refusalOf(gated.site.cri.pullImage(image))),
      await toldBecause(reason, async () => (await gated.pullWithCtr('latchkey', image)).output),
    ]) {
      expect(refusal).toContain(licenseId);
      expect(refusal).toContain(CONTACT);
    }
    const { gatedLayers, leases } = await gated.agent.status();
    expect(gatedLayers).toEqual([]);
    expect(leases.some(({ state }) => state === 'VALID')).toBe(false);
    const { memoryDirectory } = gated.site.agent.paths;
    expect(await filesContaining([memoryDirectory, gated.site.directory], SECRET)).toEqual([]);
    // They share layers, so that the reason for one could be told for another.
    for (const namespace of ['default', 'k8s.io']) {
      await gated.ctr('--namespace', namespace, 'images', 'remove', '--sync', image);
    }
  });

  test('the released ones run all the same', async () => {
    for (const name of ['multi', 'acme']) {
      await gated.site.cri.pullImage(gated.site.reference(name));
      const pod = await gated.site.cri.runPod(`true-${name}`, gated.site.reference(name));
      await gated.site.cri.removePod(pod.sandboxId);
    }
  });

  test.each([
    ['dropped', 'at its start', 'DENIED_IMAGE_ALTERED'],
    ['plain-replaced', 'at its start', 'DENIED_IMAGE_ALTERED'],
    // Only the foreign layer needs a key now, and that is another release's.
    ['swapped', 'when it is pulled', 'DENIED_PRODUCT_MISMATCH'],
    ['reordered', 'when it is pulled', 'DENIED_IMAGE_ALTERED'],
    ['replaced-platform', 'when it is pulled', 'DENIED_IMAGE_ALTERED'],
  ])('%s: refused %s also where the true image has been opened', async (name, when, code) => {
    const image = gated.site.reference(name);
    const pull = gated.site.cri.pullImage(image);
    if (when === 'at its start') await pull;
    const refusal = await refusalOf(when === 'at its start' ? gated.site.cri.runPod(name, image) : pull);
    expect(refusal).toContain(code);
    expect(refusal).toContain(licenseId);
    expect(refusal).toContain(CONTACT);
  });

  test('foreign-config: refused at its start by ctr and by Kubernetes where the true image has been opened', async () => {
    const image = gated.site.reference('foreign-config');
    expect((await gated.pullWithCtr('latchkey', gated.image)).status).toBe(0);
    expect((await gated.pullWithCtr('latchkey', image)).status).toBe(0);
    await gated.site.cri.pullImage(image);
    for (const refusal of [
      (await gated.runWithCtr('foreign-config', 'latchkey', image)).output,
      await refusalOf(gated.site.cri.runPod('foreign-config', image)),
    ]) {
      expect(refusal).toContain('DENIED_IMAGE_ALTERED');
      expect(refusal).toMatch(/foreign-config:1: the config sha256:\w+ is not the released one/);
      expect(refusal).toContain(licenseId);
      expect(refusal).toContain(CONTACT);
    }
    expect((await gated.runWithCtr('true-config')).output).toContain(SECRET);
  });

  test('the released config around other layers: refused where the true image has been opened', async () => {
    const image = await gated.copyConfigWithForeignLayers('junk');
    expect((await gated.pullWithCtr('latchkey', image)).status).toBe(0);
    const { output } = await gated.runWithCtr('junk', 'latchkey', image);
    expect(output).toContain('DENIED_IMAGE_ALTERED');
    expect(output).not.toContain(SECRET);
  });

  /** While the one before is being collected, the reason for that can be told: they share layers. */
  async function toldBecause(reason: RegExp, attempt: () => Promise<string>): Promise<string> {
    for (;;) {
      const told = await toldOnce(attempt);
      expect(told).toContain('DENIED_IMAGE_ALTERED');
      if (reason.test(told)) return told;
    }
  }

  async function material(name: string): Promise<Material> {
    const layout = openLayout(gated.site.layout(name));
    const { bytes } = await layout.readManifest('1');
    const manifest = JSON.parse(Buffer.from(bytes).toString()) as {
      config: Descriptor;
      layers: Descriptor[];
    };
    const chunks: Uint8Array[] = [];
    for await (const chunk of layout.openBlob(manifest.config)) chunks.push(chunk);
    return { layers: manifest.layers, config: JSON.parse(Buffer.concat(chunks).toString()) as Config };
  }

  async function pushForged(name: string, { layers, config }: Material): Promise<void> {
    const layout = openLayout(gated.site.layout(name));
    for (const from of ['acme', 'foreign']) {
      const source = openLayout(gated.site.layout(from));
      const there = (descriptor: Descriptor) => source.hasBlob(descriptor);
      for (const layer of layers) if (await there(layer)) await copyBlobs(source, layout, [layer]);
    }
    const configBytes = Buffer.from(JSON.stringify(config));
    const configDescriptor = {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(configBytes),
      size: configBytes.length,
    };
    for (const [descriptor, bytes] of [
      [configDescriptor, configBytes],
      [plainDescriptor(evil), evil.bytes],
    ] as const) {
      await layout.writeBlob(descriptor, async function* () {
        yield bytes;
      });
    }
    const manifest = {
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      config: configDescriptor,
      layers,
    } as const;
    await layout.writeManifest(encodeImageDocument(manifest), '1');
    await gated.site.push(name, '1');
  }

  /** `multi` has two platforms; in `replaced-platform` the other one's image is listed as this machine's. */
  async function releaseMultiPlatform(): Promise<void> {
    const plain = openLayout(gated.site.layout('multi-plain'));
    const entries: Descriptor[] = [];
    for (const architecture of [machineArchitecture(), OTHER_ARCHITECTURE]) {
      const layers = [gated.site.baseLayer, await secretLayer(architecture)];
      const descriptor = await writeImage(plain, architecture, {
        layers,
        command: SLEEP_COMMAND,
        architecture,
      });
      entries.push({ ...descriptor, platform: { os: 'linux', architecture } });
    }
    const index = { schemaVersion: 2, mediaType: INDEX_TYPE } as const;
    await plain.writeManifest(encodeImageDocument({ ...index, manifests: entries }), 'all');
    await releaseImage(gated.site.api, {
      layoutDirectory: gated.site.layout('multi-plain'),
      tag: 'all',
      outputDirectory: gated.site.layout('multi'),
      outputTag: '1',
      productCode: PRODUCT,
      selection: { kind: 'layers', positions: [1] },
    });
    await gated.site.push('multi', '1');

    const released = openLayout(gated.site.layout('multi'));
    const { manifests } = JSON.parse(Buffer.from((await released.readManifest('1')).bytes).toString()) as {
      manifests: Descriptor[];
    };
    const [own, other] = manifests;
    const replaced = { ...index, manifests: [{ ...other!, platform: own!.platform }] };
    await released.writeManifest(encodeImageDocument(replaced), 'replaced');
    await gated.site.pushAs('multi', 'replaced', 'replaced-platform');
  }

  /** Enters the forged manifests as images of the release, which no API allows. */
  async function registerBehindTheScenes(): Promise<void> {
    const digests: Digest[] = [];
    for (const name of Object.keys(FORGERIES)) {
      digests.push((await openLayout(gated.site.layout(name)).readManifest('1')).descriptor.digest);
    }
    await gated.site.keyServer.stop();
    const database = new DatabaseSync(join(gated.site.keyServer.dataDirectory, 'latchkey.db'));
    const row = database
      .prepare('SELECT organization_id, release_id FROM release_image WHERE image_digest = ?')
      .get(gated.release.imageDigest) as { organization_id: string; release_id: string };
    const insert = database.prepare('INSERT INTO release_image VALUES (?, ?, ?)');
    for (const digest of digests) insert.run(row.organization_id, digest, row.release_id);
    database.close();
    await gated.site.restartKeyServer();
  }
});

function withDiffIds(config: Config, diffIds: readonly string[]): Config {
  return {
    ...config,
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: diffIds.map(() => ({ created_by: 'forger' })),
  };
}

function plainDescriptor(layer: BuiltLayer): Descriptor {
  return {
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    digest: layer.digest,
    size: layer.bytes.length,
  };
}
