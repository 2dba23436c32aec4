/** SBOMs that were attached to an image after its build: the same is asked of them as of those inside. */
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { parseManifest } from '#src/oci/manifest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobStore, ManifestBlob } from '#src/store/blob-store.ts';
import { copyBlobs } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { parseReference } from '#src/oci/reference.ts';
import { type CommandOutcome, runLatchkey } from '../fakes/command-line.ts';
import { bytesOf } from '../fakes/image.ts';
import { fakeReferrer, storeReferrer } from '../fakes/referrer.ts';
import { addReferrersApi } from '../fakes/registry-referrers.ts';
import { startFakeRegistry } from '../fakes/registry.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const SBOM = 'application/spdx+json';
const SIGNATURE = 'application/vnd.cncf.notary.signature';
const PACKAGES = '{"packages":["secret-algorithm"]}';

const directory = temporaryDirectory();
const layout = (name: string) => openLayout(join(directory(), name));
const latchkey = (...args: string[]): Promise<CommandOutcome> =>
  runLatchkey(args, { directory: directory() });

let image: ManifestBlob;

beforeEach(async () => {
  const source = layout('plain');
  image = await storeRealImage(source, [await realLayer(MEDIA_TYPE.ociLayerGzip)], { tag: 'v1' });
  await storeReferrer(source, fakeReferrer(image.descriptor, SBOM, PACKAGES));
  await storeReferrer(source, fakeReferrer(image.descriptor, SIGNATURE));
  await latchkey('keygen', 'key');
  await latchkey('keygen', 'other');
});

const encrypt = (...options: string[]) =>
  latchkey('encrypt', 'oci:plain:v1', 'oci:encrypted:v1', '--recipient', 'jwe:key.pub.pem', ...options);
const decrypt = () => latchkey('decrypt', 'oci:encrypted:v1', 'oci:decrypted:v1', '--key', 'key.pem');

interface Attached {
  readonly artifactType: string | undefined;
  readonly document: Descriptor;
  readonly text: string;
}

/** What refers to the image under `v1`, with its only document. */
async function attachedTo(store: BlobStore, tag = 'v1'): Promise<Attached[]> {
  const root = await store.readManifest(tag);
  const referrers = await store.listReferrers(root.descriptor.digest);
  return Promise.all(referrers.map(({ digest }) => readAttached(store, digest)));
}

async function readAttached(store: BlobStore, digest: Digest): Promise<Attached> {
  const manifest = parseManifest((await store.readManifest(digest)).bytes);
  const [document] = manifest.layers;
  await bytesOf(store.openBlob(manifest.config));
  const bytes = await bytesOf(store.openBlob(document!));
  return { artifactType: manifest.artifactType, document: document!, text: bytes.toString() };
}

describe('an SBOM attached to the plain image', () => {
  test('stops the command until something is said about it', async () => {
    const outcome = await encrypt();
    expect(outcome.status).toBe(2);
    expect(outcome.stderr).toMatch(/attestations in clear, .*: SBOM of linux\/amd64 \(attached\)/);
    expect(outcome.stderr).toContain('--attestations drop');
    expect((await encrypt('--dry-run')).stdout).toMatch(/attestation +needs --attestations +.*\(attached\)/);
  });

  test('is left with it by drop, and a signature in any case', async () => {
    const outcome = await encrypt('--attestations', 'drop');
    expect(outcome.status).toBe(0);
    expect(outcome.stderr).toContain(`attached to the image, and left with it: ${SIGNATURE}`);
    expect(await attachedTo(layout('encrypted'))).toEqual([]);
  });

  test('refers to the encrypted image with keep', async () => {
    expect(await encrypt('--attestations', 'keep')).toMatchObject({ status: 0 });
    expect(await attachedTo(layout('encrypted'))).toMatchObject([{ artifactType: SBOM, text: PACKAGES }]);
    const inspection = await latchkey('inspect', 'oci:encrypted:v1');
    expect(inspection.stdout).toMatch(/attestation: SBOM of linux\/amd64 \(attached\)/);
  });

  test('is encrypted with encrypt, and comes back', async () => {
    const outcome = await encrypt('--attestations', 'encrypt', '--json');
    const [sbom, ...others] = await attachedTo(layout('encrypted'));
    expect(others).toEqual([]);
    expect(sbom).toMatchObject({
      artifactType: SBOM,
      document: { mediaType: 'application/json+encrypted' },
    });
    expect(sbom?.text).not.toContain('secret-algorithm');
    expect(JSON.parse(outcome.stdout)).toMatchObject({ attached: [expect.stringMatching(/^sha256:/)] });

    expect(await decrypt()).toMatchObject({ status: 0 });
    expect(await attachedTo(layout('decrypted'))).toMatchObject([
      { artifactType: SBOM, document: { mediaType: 'application/json' }, text: PACKAGES },
    ]);
  });

  test('goes to a registry with the image, and the statement of the release with both', async () => {
    const registry = await startFakeRegistry();
    addReferrersApi(registry);
    try {
      const destination = `${registry.host}/acme/web:v1`;
      const options = [
        '--recipient',
        'jwe:key.pub.pem',
        '--attestations',
        'encrypt',
        '--sign-key',
        'key.pem',
      ];
      expect(await latchkey('encrypt', 'oci:plain:v1', destination, ...options)).toMatchObject({ status: 0 });
      const store = openRegistry(parseReference(destination));
      const types = (await attachedTo(store)).map(({ artifactType }) => artifactType);
      expect(types.sort()).toEqual([SBOM, 'application/vnd.in-toto+json']);
      const pub = ['--key', 'key.pub.pem', '--allow-http'];
      expect(await latchkey('verify', destination, ...pub)).toMatchObject({ status: 0 });
      expect(await latchkey('decrypt', destination, 'oci:decrypted:v1', '--key', 'key.pem')).toMatchObject({
        status: 0,
      });
      expect(await attachedTo(layout('decrypted'))).toMatchObject([{ artifactType: SBOM, text: PACKAGES }]);
    } finally {
      await registry.stop();
    }
  });

  test('by a stranger, for another key, is in nobody’s way', async () => {
    await encrypt('--attestations', 'drop');
    const theirs = ['--recipient', 'jwe:other.pub.pem', '--attestations', 'encrypt'];
    expect(await latchkey('encrypt', 'oci:plain:v1', 'oci:theirs:v1', ...theirs)).toMatchObject({
      status: 0,
    });
    const [from, to] = [layout('theirs'), layout('encrypted')];
    const [referrer] = await from.listReferrers((await from.readManifest('v1')).descriptor.digest);
    const manifest = parseManifest((await from.readManifest(referrer!.digest)).bytes);
    await copyBlobs(from, to, [manifest.config, ...manifest.layers]);
    const subject = (await to.readManifest('v1')).descriptor;
    await to.writeManifest(encodeImageDocument({ ...manifest, mediaType: MEDIA_TYPE.ociManifest, subject }));
    const outcome = await decrypt();
    expect(outcome.status).toBe(0);
    expect(outcome.stderr).toContain('left with it: application/spdx+json');
    expect(await attachedTo(layout('decrypted'))).toEqual([]);
  });
});
