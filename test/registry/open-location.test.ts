import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseLocation } from '#src/oci/location.ts';
import { openLocation } from '#src/registry/open-location.ts';
import { fakeImage, storeImage } from '../fakes/image.ts';

const archives = {
  temporaryDirectory: tmpdir(),
  streams: { input: () => process.stdin, output: process.stdout },
};
const DIGEST = `sha256:${'d'.repeat(64)}`;

test.each([
  ['nginx', 'docker://docker.io/library/nginx', 'latest', 'latest'],
  ['docker://localhost:5000/a:1', 'docker://localhost:5000/a', '1', '1'],
  [`localhost:5000/a@${DIGEST}`, 'docker://localhost:5000/a', DIGEST, undefined],
  [`localhost:5000/a:1@${DIGEST}`, 'docker://localhost:5000/a', DIGEST, '1'],
  ['oci:dir', 'oci:dir', undefined, undefined],
  ['oci:dir:v1', 'oci:dir', 'v1', 'v1'],
  [`oci:dir@${DIGEST}`, 'oci:dir', DIGEST, undefined],
  ['oci-archive:x.tar', 'oci-archive:x.tar', undefined, undefined],
  ['oci-archive:-:v1', 'oci-archive:-', 'v1', 'v1'],
  ['docker-archive:x.tar:a/b:1', 'docker-archive:x.tar', 'a/b:1', 'a/b:1'],
])('%s', async (text, location, reference, tag) => {
  const opened = await openLocation(parseLocation(text), { archives });
  expect([opened.store.location, opened.reference, opened.tag]).toEqual([location, reference, tag]);
});

test('a layout is opened for reading and writing', async () => {
  const root = await mkdtemp(join(tmpdir(), 'latchkey-location-'));
  try {
    const { store, reference, tag } = await openLocation(parseLocation(`oci:${root}:v1`), { archives });
    const image = fakeImage();
    await storeImage(store, image, tag);
    expect((await store.readManifest(reference)).descriptor).toEqual(image.manifest.descriptor);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
