// Blobs that the registry has already, here or in another repository.
import { expect, test } from 'vitest';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { BLOB, BLOB_KEY, CONTENT, useFakeRepository } from '../fakes/fake-repository.ts';

const fake = useFakeRepository();

test.each([
  ['shorter', CONTENT.subarray(1)],
  ['longer', Buffer.concat([CONTENT, Buffer.from('x')])],
])('a blob that the registry says is %s does not count as there', async (_, other) => {
  fake.current.registry.blobs.set(BLOB_KEY, CONTENT);
  expect(await fake.current.store.hasBlob(BLOB)).toBe(true);
  fake.current.registry.blobs.set(BLOB_KEY, other);
  expect(await fake.current.store.hasBlob(BLOB)).toBe(false);
});

test('an upload that is opened in place of a mount is given up', async () => {
  const { registry, store, timing } = fake.current;
  const source = openRegistry(parseReference(`${registry.host}/team/other:v1`), { timing });
  expect(await store.mountBlob?.(BLOB, source)).toBe(false);
  const opened = registry.requests.filter(({ method }) => method === 'POST');
  expect(opened.at(-1)?.url.searchParams.get('mount')).toBe(BLOB.digest);
  expect(registry.requests.at(-1)?.method).toBe('DELETE');
  expect(registry.uploads.size).toBe(0);
});
