// Signatures and other referrers in layouts and in memory: found again, and never taken for the image.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { openLayout } from '#src/store/layout.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { isReferrersTag, referrerIn, referrersTag } from '#src/store/referrers.ts';
import { fakeImage, fakeIndex, storeImage } from '../fakes/image.ts';
import { fakeReferrer, storeReferrer } from '../fakes/referrer.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const SKOPEO = '/usr/bin/skopeo';
const directory = temporaryDirectory();
const image = fakeImage();
const subject = image.manifest.descriptor;
const signature = fakeReferrer(subject, 'application/vnd.example.signature');
const sbom = fakeReferrer(subject, 'application/vnd.example.sbom');

describe.each<[string, () => BlobStore]>([
  ['a layout', () => openLayout(join(directory(), 'layout'))],
  ['memory', () => createMemoryStore()],
])('%s', (_, open) => {
  test('finds referrers by subject and type, and the image beside them', async () => {
    const store = open();
    await storeImage(store, image);
    await storeReferrer(store, signature);
    await storeReferrer(store, sbom);
    await storeReferrer(store, sbom);
    expect((await store.readManifest()).descriptor).toEqual(subject);
    const all = await store.listReferrers(subject.digest);
    expect(all.map(({ artifactType }) => artifactType).sort()).toEqual([
      'application/vnd.example.sbom',
      'application/vnd.example.signature',
    ]);
    const found = await store.listReferrers(subject.digest, 'application/vnd.example.sbom');
    expect(found).toEqual([referrerIn(sbom.manifest)?.descriptor]);
    expect((await store.readManifest(found[0]?.digest)).bytes).toEqual(sbom.manifest.bytes);
    expect(await store.listReferrers(digestOf('another'))).toEqual([]);
  });

  test('a referrer that comes first does not become the image', async () => {
    const store = open();
    await storeReferrer(store, signature);
    expect((await store.readManifest()).descriptor.digest).toBe(signature.manifest.descriptor.digest);
    await storeImage(store, image);
    expect((await store.readManifest()).descriptor).toEqual(subject);
  });
});

describe('a layout', () => {
  test('with two images stays ambiguous', async () => {
    const store = openLayout(directory());
    await storeImage(store, image);
    await storeImage(store, fakeImage());
    await storeReferrer(store, signature);
    await expect(store.readManifest()).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
      hint: expect.not.stringContaining(signature.manifest.descriptor.digest) as string,
    });
  });

  test('reads a list that was copied with its tag', async () => {
    const store = openLayout(directory());
    await storeImage(store, image, 'v1');
    await storeReferrer(store, signature);
    await store.writeManifest(signature.manifest, undefined, { isChild: true });
    await store.writeManifest(fakeIndex([sbom.manifest]), referrersTag(subject.digest));
    const found = await store.listReferrers(subject.digest);
    expect(found.map(({ digest }) => digest).sort()).toEqual(
      [signature, sbom].map(({ manifest }) => manifest.descriptor.digest).sort(),
    );
    expect((await store.readManifest()).descriptor).toEqual(subject);
  });

  test('a damaged referrer is an error, one that is not there is passed over', async () => {
    const store = openLayout(directory());
    await storeImage(store, image);
    await storeReferrer(store, signature);
    const path = store.localPath!(signature.manifest.descriptor.digest)!;
    await writeFile(path, 'x'.repeat(signature.manifest.bytes.length));
    await expect(store.listReferrers(subject.digest)).rejects.toMatchObject({
      code: 'INPUT_DIGEST_MISMATCH',
    });
    await rm(path);
    expect(await store.listReferrers(subject.digest)).toEqual([]);
  });

  test.skipIf(!existsSync(SKOPEO))('with a referrer is still copied by skopeo (needs skopeo)', async () => {
    const [from, to] = [join(directory(), 'from'), join(directory(), 'to')];
    await storeImage(openLayout(from), image, 'v1');
    await storeReferrer(openLayout(from), signature);
    execFileSync(SKOPEO, ['copy', '--quiet', '--preserve-digests', `oci:${from}:v1`, `oci:${to}:v1`]);
    expect((await openLayout(to).readManifest()).descriptor.digest).toBe(subject.digest);
  });
});

describe('referrerIn', () => {
  test('the config stands in for a missing type; indexes refer too; others do not', () => {
    const config = { mediaType: 'application/vnd.x', digest: digestOf('{}'), size: 2 };
    const untyped = encodeImageDocument({
      ...{
        schemaVersion: 2,
        mediaType: MEDIA_TYPE.ociManifest,
        artifactType: '',
        config,
        layers: [],
        subject,
      },
    });
    expect(referrerIn(untyped)).toMatchObject({
      subject: subject.digest,
      descriptor: { artifactType: 'application/vnd.x' },
    });
    const index = encodeImageDocument({
      ...{ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests: [], subject },
    });
    expect(referrerIn(index)?.descriptor).not.toHaveProperty('artifactType');
    expect(referrerIn(image.manifest)).toBeUndefined();
    expect(referrerIn({ descriptor: { ...config }, bytes: Buffer.from('{}') })).toBeUndefined();
  });

  test('the tag is told from others', () => {
    expect(isReferrersTag(referrersTag(subject.digest))).toBe(true);
    expect(isReferrersTag('v1')).toBe(false);
    expect(isReferrersTag(`${referrersTag(subject.digest)}.sig`)).toBe(false);
  });
});
