// Downloads from a registry, and storage behind it, that fail, lie or listen in.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MAX_REDIRECTS, MAX_TRANSFER_CUTS } from '#src/base/limits.ts';
import { BLOB, BLOB_KEY, CONTENT, NAME, useFakeRepository } from '../fakes/fake-repository.ts';
import { startForeignStorage, type ForeignStorage } from '../fakes/foreign-storage.ts';
import { bytesOf } from '../fakes/image.ts';
import type { RecordedRequest } from '../fakes/registry.ts';

const fake = useFakeRepository();

let foreign: ForeignStorage;
beforeEach(async () => {
  foreign = await startForeignStorage(CONTENT);
});
afterEach(() => foreign.stop());

/** A download that has logged in, so that the test meddles with the content alone. */
function isBlobGet({ method, url, headers }: RecordedRequest): boolean {
  return method === 'GET' && url.pathname.includes('/blobs/sha256:') && headers.authorization !== undefined;
}

describe('download', () => {
  const read = (): Promise<Buffer> => bytesOf(fake.current.store.openBlob(BLOB));

  test('flipped bytes never reach the end', async () => {
    const flipped = Buffer.from(CONTENT);
    flipped[flipped.length - 1]! ^= 1;
    fake.current.registry.blobs.set(BLOB_KEY, flipped);
    let gotBytes = 0;
    const reading = async (): Promise<void> => {
      for await (const chunk of fake.current.store.openBlob(BLOB)) gotBytes += chunk.length;
    };
    await expect(reading()).rejects.toMatchObject({ code: 'INPUT_DIGEST_MISMATCH' });
    expect(gotBytes).toBeLessThan(CONTENT.length);
  });

  test('a blob that is too short or too long is refused', async () => {
    fake.current.registry.blobs.set(BLOB_KEY, CONTENT.subarray(0, 1000));
    await expect(read()).rejects.toMatchObject({ code: 'INPUT_TRUNCATED' });
    fake.current.registry.blobs.set(BLOB_KEY, Buffer.concat([CONTENT, Buffer.from('x')]));
    await expect(read()).rejects.toMatchObject({ code: 'INPUT_DIGEST_MISMATCH' });
  });

  test.each([true, false])('a cut connection is resumed (registry knows Range: %s)', async (knowsRange) => {
    fake.current.registry.blobs.set(BLOB_KEY, CONTENT);
    let cuts = 0;
    fake.current.registry.misbehaviours.push((request, response) => {
      if (!isBlobGet(request)) return false;
      const { headers } = request;
      if (!knowsRange) delete headers.range;
      if (cuts >= 3) return false;
      cuts += 1;
      const start = Number(/\d+/.exec(headers.range ?? '0')?.[0]);
      response.writeHead(headers.range === undefined ? 200 : 206, {
        'content-length': CONTENT.length - start,
        ...(headers.range === undefined ? {} : { 'content-range': `bytes ${start}-${CONTENT.length - 1}/*` }),
      });
      response.write(CONTENT.subarray(start, start + 500_000 * cuts), () => {
        setTimeout(() => response.destroy(), 50);
      });
      return true;
    });
    expect((await read()).equals(CONTENT)).toBe(true);
    expect(cuts).toBe(3);
  });

  test('a connection that is cut again and again without a byte gained ends in an error', async () => {
    let cuts = 0;
    fake.current.registry.misbehaviours.push((request, response) => {
      if (!isBlobGet(request)) return false;
      cuts += 1;
      response.writeHead(200, { 'content-length': CONTENT.length });
      response.flushHeaders();
      setTimeout(() => response.destroy(), 10);
      return true;
    });
    await expect(read()).rejects.toMatchObject({ code: 'NET_UNREACHABLE' });
    expect(cuts).toBe(MAX_TRANSFER_CUTS + 1);
  });

  test.each([301, 302, 303, 307, 308])(
    'redirect %i to a foreign host goes without authorization',
    async (status) => {
      fake.current.registry.misbehaviours.push((request, response) => {
        if (!isBlobGet(request)) return false;
        response.writeHead(status, { location: `http://${foreign.host}/storage?signature=x` }).end('moved');
        return true;
      });
      expect((await read()).equals(CONTENT)).toBe(true);
      expect(foreign.seen).toHaveLength(1);
      expect(foreign.seen[0]).not.toHaveProperty('authorization');
    },
  );

  /** Sends a download on so many times; a redirect goes to a path that is the registry's own. */
  const redirect = (times: number): RecordedRequest[] => {
    const hops: RecordedRequest[] = [];
    fake.current.registry.blobs.set(BLOB_KEY, CONTENT);
    fake.current.registry.misbehaviours.push((request, response) => {
      if (!isBlobGet(request)) return false;
      hops.push(request);
      if (hops.length > times) return false;
      response.writeHead(307, { location: `/v2/${NAME}/blobs/${BLOB.digest}?hop=${hops.length}` }).end();
      return true;
    });
    return hops;
  };

  test('as many redirects as are allowed are followed', async () => {
    const hops = redirect(MAX_REDIRECTS);
    expect((await read()).equals(CONTENT)).toBe(true);
    expect(hops).toHaveLength(MAX_REDIRECTS + 1);
  });

  test('a loop is left after so many', async () => {
    const hops = redirect(Infinity);
    await expect(read()).rejects.toMatchObject({
      code: 'NET_REGISTRY',
      message: expect.stringContaining(`more than ${MAX_REDIRECTS} times`) as string,
    });
    expect(hops).toHaveLength(MAX_REDIRECTS + 1);
  });

  test.each([
    ['another protocol', 'file:///etc/passwd'],
    ['a link-local address', 'http://169.254.169.254/latest/meta-data'],
    ['nonsense', 'http://['],
  ])('a redirect to %s is refused', async (_, location) => {
    fake.current.registry.misbehaviours.push((request, response) => {
      if (!isBlobGet(request)) return false;
      response.writeHead(307, { location }).end();
      return true;
    });
    await expect(read()).rejects.toMatchObject({ code: 'NET_REGISTRY' });
    expect(fake.current.timing.sleptMs).toEqual([]);
  });

  test('an answer with another range than asked for is refused', async () => {
    fake.current.registry.misbehaviours.push((request, response) => {
      if (!isBlobGet(request)) return false;
      if (request.headers.range === undefined) {
        response.writeHead(200, { 'content-length': CONTENT.length });
        response.write(CONTENT.subarray(0, 1000), () => setTimeout(() => response.destroy(), 50));
      } else response.writeHead(206, { 'content-range': 'bytes 0-9/10' }).end('0123456789');
      return true;
    });
    await expect(read()).rejects.toMatchObject({ code: 'NET_REGISTRY' });
  });

  test('an abort ends it', async () => {
    fake.current.registry.blobs.set(BLOB_KEY, CONTENT);
    const controller = new AbortController();
    const reading = async (): Promise<void> => {
      for await (const chunk of fake.current.store.openBlob(BLOB, { signal: controller.signal })) {
        expect(chunk.length).toBeGreaterThan(0);
        controller.abort();
      }
    };
    await expect(reading()).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });
});
