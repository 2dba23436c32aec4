// Requests to a registry that is overloaded or away.
import { beforeEach, describe, expect, test } from 'vitest';
import { MAX_REGISTRY_ATTEMPTS } from '#src/base/limits.ts';
import { BLOB, BLOB_KEY, CONTENT, useFakeRepository } from '../fakes/fake-repository.ts';
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

  test.each([408, 500, 502, 503, 504])('%i is tried again, but not for ever', async (status) => {
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
    await expect(fake.current.store.hasBlob(BLOB)).rejects.toMatchObject({ code: 'NET_REGISTRY' });
    expect(fake.current.registry.requests.length - before).toBe(MAX_REGISTRY_ATTEMPTS);
  });
});
