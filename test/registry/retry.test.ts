// Requests to a registry that is overloaded or away.
import { beforeEach, describe, expect, test } from 'vitest';
import { MAX_REGISTRY_ATTEMPTS, REGISTRY_RETRY_BASE_MS } from '#src/base/limits.ts';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { BLOB, BLOB_KEY, CONTENT, NAME, useFakeRepository } from '../fakes/fake-repository.ts';
import { streamOf } from '../fakes/image.ts';
import { sendError } from '../fakes/registry.ts';

const fake = useFakeRepository();

describe('overload', () => {
  beforeEach(() => {
    fake.current.registry.blobs.set(BLOB_KEY, CONTENT);
  });

  test('429 is waited for as long as the registry asks', async () => {
    let refusals = 0;
    fake.current.registry.misbehaviours.push((_, response) => {
      if ((refusals += 1) > 2) return false;
      response.setHeader(
        'retry-after',
        refusals === 1 ? '7' : new Date(fake.current.timing.clock.nowMs() + 9000).toUTCString(),
      );
      sendError(response, 429, 'TOOMANYREQUESTS', 'slow down');
      return true;
    });
    expect(await fake.current.store.hasBlob(BLOB)).toBe(true);
    expect(fake.current.timing.sleptMs).toEqual([7000, 9000]);
  });

  test('a wait of an hour is reported instead', async () => {
    fake.current.registry.misbehaviours.push((_, response) => {
      response.setHeader('retry-after', '3600');
      sendError(response, 429, 'TOOMANYREQUESTS', 'slow down');
      return true;
    });
    await expect(fake.current.store.hasBlob(BLOB)).rejects.toMatchObject({ code: 'NET_REGISTRY' });
    expect(fake.current.timing.sleptMs).toEqual([]);
  });

  test.each([408, 500, 502, 503, 504, 520, 529, 599])(
    '%i is tried again, but not for ever',
    async (status) => {
      let failures = 0;
      fake.current.registry.misbehaviours.push((_, response) => {
        if ((failures += 1) > 2) return false;
        response.writeHead(status).end();
        return true;
      });
      expect(await fake.current.store.hasBlob(BLOB)).toBe(true);
      failures = -1000;
      fake.current.registry.misbehaviours.unshift((_, response) => {
        response.writeHead(status).end();
        return true;
      });
      const before = fake.current.registry.requests.length;
      await expect(fake.current.store.readManifest('v1')).rejects.toMatchObject({ code: 'NET_REGISTRY' });
      expect(fake.current.registry.requests.length - before).toBe(MAX_REGISTRY_ATTEMPTS);
    },
  );

  test.each([501, 505])('%i is not tried again', async (status) => {
    const { registry, store } = fake.current;
    registry.misbehaviours.push((_, response) => {
      response.writeHead(status).end();
      return true;
    });
    await expect(store.hasBlob(BLOB)).rejects.toMatchObject({ code: 'NET_REGISTRY' });
    expect(registry.requests).toHaveLength(1);
  });

  test('clients that fail together do not come back together', async () => {
    const { registry, timing } = fake.current;
    registry.misbehaviours.push((_, response) => {
      response.writeHead(503).end();
      return true;
    });
    for (const random of [0, 0.5]) {
      const store = openRegistry(parseReference(`${registry.host}/${NAME}:v1`), {
        timing: { ...timing, random: () => random },
      });
      await expect(store.hasBlob(BLOB)).rejects.toMatchObject({ code: 'NET_REGISTRY' });
    }
    const waits = timing.sleptMs;
    expect(waits[0]).toBe(REGISTRY_RETRY_BASE_MS / 2);
    expect(waits[MAX_REGISTRY_ATTEMPTS - 1]).toBe((REGISTRY_RETRY_BASE_MS * 3) / 4);
  });
});

describe('overload in the middle of an upload', () => {
  const write = (): Promise<void> => fake.current.store.writeBlob(BLOB, () => streamOf(CONTENT));

  const refuseOnce = (refused: string, status: number, retryAfter: string): void => {
    let refusals = 0;
    fake.current.registry.misbehaviours.push(({ method, headers }, response, incoming) => {
      if (method !== refused || headers.authorization === undefined || (refusals += 1) > 1) return false;
      incoming.resume();
      response.writeHead(status, { 'retry-after': retryAfter }).end();
      return true;
    });
  };

  test.each([
    ['PATCH', 429],
    ['PATCH', 503],
    ['PATCH', 520],
    ['PUT', 429],
    ['PUT', 503],
  ])('%s answered %i goes on after the wait that was asked for', async (method, status) => {
    refuseOnce(method, status, '7');
    await write();
    expect(fake.current.timing.sleptMs).toEqual([7000]);
    expect(fake.current.registry.blobs.get(BLOB_KEY)?.equals(CONTENT)).toBe(true);
  });

  test.each([
    ['PATCH', 429],
    ['PUT', 503],
  ])('%s answered %i with a wait of an hour ends it', async (method, status) => {
    refuseOnce(method, status, '3600');
    await expect(write()).rejects.toMatchObject({ code: 'NET_REGISTRY' });
    expect(fake.current.timing.sleptMs).toEqual([]);
  });
});
