/** Media types in both directions with Debian's skopeo: zstd, nondistributable layers, Docker's own formats, attestations. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE, compressionOf } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { dockerRegistrySkipReason, startDockerRegistry } from '../../lab/docker-registry.ts';
import { storeAttestedImage } from '../fakes/attested-image.ts';
import { bytesOf, fakeIndex } from '../fakes/image.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const SKOPEO = '/usr/bin/skopeo';
const ZSTD = '/usr/bin/zstd';
const missing = [SKOPEO, ZSTD].filter((path) => !existsSync(path));
const reason =
  missing.length === 0 ? '' : ` (skipped: needs ${missing.join(', ')}: apt-get install skopeo zstd)`;
const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');
const run = promisify(execFile);
const latchkey = (...args: string[]) => run(process.execPath, [LATCHKEY, ...args]);
const skopeo = (...args: string[]) => run(SKOPEO, ['--insecure-policy', ...args]);
const UNPACK = {
  none: (bytes: Buffer) => bytes,
  gzip: gunzipSync,
  // Node's own stops after the first frame.
  zstd: (bytes: Buffer) => execFileSync(ZSTD, ['-dcq'], { input: bytes }),
};

describe.skipIf(reason !== '')(`skopeo${reason}`, () => {
  let directory: string;
  const at = (name: string) => join(directory, name);
  const recipient = () => ['--recipient', `jwe:${at('key')}.pub.pem`];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'latchkey-media-'));
    await latchkey('keygen', at('key'));
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  /** The layers of every platform unpack to what the config says. */
  async function checkDiffIds(layout: string): Promise<number> {
    const store = openLayout(layout);
    const images = platformImages(await readImageGraph(store, 'v1'));
    for (const { manifest, diffIds } of images) {
      for (const [position, layer] of manifest.layers.entries()) {
        const bytes = await bytesOf(store.openBlob(layer));
        expect(digestOf(UNPACK[compressionOf(layer.mediaType)](bytes))).toBe(diffIds[position]);
      }
    }
    return images.length;
  }

  test.each([
    ['zstd', MEDIA_TYPE.ociLayerZstd],
    ['nondistributable gzip', 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip'],
    ['nondistributable zstd', 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd'],
  ])('decrypts our %s layers, and we decrypt its', async (name, mediaType) => {
    const layers = [await realLayer(mediaType), await realLayer(mediaType)];
    await storeRealImage(openLayout(at(`${name}-source`)), layers, { tag: 'v1' });
    const [source, ours, theirs] = ['source', 'ours', 'theirs'].map(
      (part) => `oci:${at(`${name}-${part}`)}:v1`,
    );
    await latchkey('encrypt', source!, ours!, ...recipient());
    await skopeo('copy', '--decryption-key', `${at('key')}.pem`, ours!, `oci:${at(`${name}-by-skopeo`)}:v1`);
    expect(await checkDiffIds(at(`${name}-by-skopeo`))).toBe(1);
    await skopeo('copy', '--encryption-key', `jwe:${at('key')}.pub.pem`, source!, theirs!);
    await latchkey('decrypt', theirs!, `oci:${at(`${name}-by-us`)}:v1`, '--key', `${at('key')}.pem`);
    expect(await checkDiffIds(at(`${name}-by-us`))).toBe(1);
  });

  test('copies an image whose attestations are encrypted, platform by platform', async () => {
    await storeAttestedImage(openLayout(at('attested')));
    const choice = ['--attestations', 'encrypt'];
    await latchkey(
      'encrypt',
      `oci:${at('attested')}:v1`,
      `oci:${at('sealed')}:v1`,
      ...recipient(),
      ...choice,
    );
    await skopeo(
      ...['--override-arch', 'arm64', 'copy', '--decryption-key', `${at('key')}.pem`],
      ...[`oci:${at('sealed')}:v1`, `oci:${at('arm64')}:v1`],
    );
    expect(await checkDiffIds(at('arm64'))).toBe(1);
  });

  test.skipIf(dockerRegistrySkipReason() !== undefined)(
    "reads what becomes of Docker's manifests and manifest lists",
    async () => {
      const registry = await startDockerRegistry();
      try {
        const source = openLayout(at('multi'));
        const children = [];
        for (const architecture of ['amd64', 'arm64']) {
          const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip)];
          children.push({
            ...(await storeRealImage(source, layers, { architecture, isChild: true })),
            architecture,
          });
        }
        await source.writeManifest(fakeIndex(children), 'v1');
        const image = `docker://${registry.host}/docker/list:v1`;
        const toDocker = ['copy', '--all', '--format', 'v2s2', '--dest-tls-verify=false'];
        await skopeo(...toDocker, `oci:${at('multi')}:v1`, image);
        const raw = await skopeo('inspect', '--raw', '--tls-verify=false', image);
        expect((JSON.parse(raw.stdout) as { mediaType: string }).mediaType).toBe(
          MEDIA_TYPE.dockerManifestList,
        );
        const { stderr } = await latchkey('encrypt', image, `oci:${at('from-docker')}:v1`, ...recipient());
        expect(stderr).toMatch(/note: the image is in Docker's format; the result is in OCI format/);
        const graph = await readImageGraph(openLayout(at('from-docker')), 'v1');
        expect(graph.root.descriptor.mediaType).toBe(MEDIA_TYPE.ociIndex);
        expect(platformImages(graph).map(({ manifest }) => manifest.layers[0]?.mediaType)).toEqual([
          `${MEDIA_TYPE.ociLayerGzip}+encrypted`,
          `${MEDIA_TYPE.ociLayerGzip}+encrypted`,
        ]);
        const decryption = ['copy', '--all', '--decryption-key', `${at('key')}.pem`];
        await skopeo(...decryption, `oci:${at('from-docker')}:v1`, `oci:${at('from-docker-plain')}:v1`);
        expect(await checkDiffIds(at('from-docker-plain'))).toBe(2);
      } finally {
        await registry.stop();
      }
    },
  );
});
