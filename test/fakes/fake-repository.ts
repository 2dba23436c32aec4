/** A fake registry that asks for a password, our store on it, and a blob to move: the start of most registry tests. */
import { afterEach, beforeEach } from 'vitest';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf } from '#src/oci/digest.ts';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { startFakeRegistry, type FakeRegistry } from './registry.ts';
import { recordedTiming, type RecordedTiming } from './retry-timing.ts';

export const NAME = 'team/app';
export const CONTENT = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 31) % 251));
export const BLOB: Descriptor = {
  mediaType: 'application/octet-stream',
  digest: digestOf(CONTENT),
  size: CONTENT.length,
};
/** Where the fake registry keeps {@link BLOB}. */
export const BLOB_KEY = `${NAME}@${BLOB.digest}`;

export interface FakeRepository {
  readonly registry: FakeRegistry;
  readonly timing: RecordedTiming;
  readonly store: BlobStore;
}

/** A fresh one for each test of the file; read it inside of tests only. */
export function useFakeRepository(): { readonly current: FakeRepository } {
  let current: FakeRepository | undefined;
  beforeEach(async () => {
    const registry = await startFakeRegistry({ kind: 'basic', login: { user: 'u', password: 'p' } });
    const timing = recordedTiming();
    const store = openRegistry(parseReference(`${registry.host}/${NAME}:v1`), {
      timing,
      credentials: () => Promise.resolve({ kind: 'password', username: 'u', password: 'p' }),
    });
    current = { registry, timing, store };
  });
  afterEach(() => current?.registry.stop());
  return {
    get current() {
      if (current === undefined) throw new TypeError('no test is running');
      return current;
    },
  };
}
