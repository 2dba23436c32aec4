import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '#src/oci/digest.ts';
import { hasBlob, listManifests, readBlob, readRange } from '../../../shim/containerd/content.ts';
import { FakeContentStore, MANIFEST_LABELS } from '../../fakes/content-store.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
let store: FakeContentStore;
beforeEach(async () => {
  store = await FakeContentStore.start(join(directory(), 'containerd.sock'));
});
afterEach(() => store.close());

describe('a blob', () => {
  test.each([0, 1, 2999, 3000, 3001, 100_000])('of %i bytes is read whole', async (size) => {
    const bytes = randomBytes(size);
    const digest = store.add('k8s.io', bytes);
    expect((await readBlob(store.connection, 'k8s.io', digest, size)).equals(bytes)).toBe(true);
    expect(await hasBlob(store.connection, 'k8s.io', digest)).toBe(true);
  });

  test('of another namespace is not there', async () => {
    const digest = store.add('k8s.io', randomBytes(10));
    expect(await hasBlob(store.connection, 'default', digest)).toBe(false);
    await expect(readBlob(store.connection, 'default', digest, 100)).rejects.toThrow(/not found/);
  });

  test('that is too large, or not what its digest says, is refused', async () => {
    const digest = store.add('k8s.io', randomBytes(101));
    await expect(readBlob(store.connection, 'k8s.io', digest, 100)).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
    const other = digestOf('something');
    store.put('k8s.io', other, randomBytes(50));
    await expect(readBlob(store.connection, 'k8s.io', other, 100)).rejects.toMatchObject({
      code: 'INPUT_DIGEST_MISMATCH',
    });
  });

  test.each([1, 2999, 3000, 4096, 50_000])('can be read up to its byte %i', async (maxBytes) => {
    const bytes = randomBytes(20_000);
    const digest = store.add('k8s.io', bytes);
    const read = await readRange(store.connection, 'k8s.io', digest, maxBytes);
    expect(read.equals(bytes.subarray(0, maxBytes))).toBe(true);
  });
});

test('manifests are told from other content', async () => {
  store.add('k8s.io', randomBytes(10));
  const bytes = randomBytes(20);
  const digest = store.add('k8s.io', bytes, MANIFEST_LABELS);
  expect(await listManifests(store.connection, 'k8s.io')).toEqual([{ digest, sizeBytes: 20 }]);
  expect(await listManifests(store.connection, 'default')).toEqual([]);
});

test('a containerd that is away is named', async () => {
  store.stop();
  await expect(listManifests(store.connection, 'k8s.io')).rejects.toMatchObject({
    code: 'NET_UNREACHABLE',
    message: `containerd at ${join(directory(), 'containerd.sock')} is unreachable`,
  });
});
