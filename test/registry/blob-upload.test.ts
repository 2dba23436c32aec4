// Uploads to a registry that is cut off, forgets, or sends us to a stranger.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BLOB, BLOB_KEY, CONTENT, NAME, useFakeRepository } from '../fakes/fake-repository.ts';
import { startForeignStorage, type ForeignStorage } from '../fakes/foreign-storage.ts';
import { streamOf } from '../fakes/image.ts';

const fake = useFakeRepository();

let foreign: ForeignStorage;
beforeEach(async () => {
  foreign = await startForeignStorage(CONTENT);
});
afterEach(() => foreign.stop());

describe('upload', () => {
  const write = (content: Buffer = CONTENT): Promise<void> =>
    fake.current.store.writeBlob(BLOB, () => streamOf(content));

  test('a cut upload goes on from where the registry got to', async () => {
    const starts: (string | undefined)[] = [];
    fake.current.registry.misbehaviours.push(async ({ method, url, headers }, response, incoming) => {
      if (method !== 'PATCH') return false;
      starts.push(headers['content-range']);
      if (starts.length > 2) return false;
      const id = url.pathname.slice(url.pathname.lastIndexOf('/') + 1);
      let kept = fake.current.registry.uploads.get(id)!;
      for await (const chunk of incoming) {
        kept = Buffer.concat([kept, chunk as Buffer]);
        if (kept.length > 1_000_000 * starts.length) break;
      }
      fake.current.registry.uploads.set(id, kept);
      response.destroy();
      return true;
    });
    let movedBytes = 0;
    await fake.current.store.writeBlob(BLOB, () => streamOf(CONTENT), {
      onBytes: (bytes) => (movedBytes += bytes),
    });
    expect(fake.current.registry.blobs.get(BLOB_KEY)?.equals(CONTENT)).toBe(true);
    expect(movedBytes).toBe(CONTENT.length);
    expect(starts).toHaveLength(3);
    expect(Number(starts[1]?.split('-')[0])).toBeGreaterThan(1_000_000);
    expect(Number(starts[2]?.split('-')[0])).toBeGreaterThan(2_000_000);
  });

  test('a cut upload goes on where the registry has moved it', async () => {
    const { registry } = fake.current;
    const patched: string[] = [];
    registry.misbehaviours.push(async ({ method, url }, response, incoming) => {
      if (method === 'GET' && url.pathname.includes('/uploads/')) {
        const [[id, bytes]] = [...registry.uploads] as [[string, Buffer]];
        registry.uploads.delete(id);
        registry.uploads.set('moved', bytes);
        const location = `/v2/${NAME}/blobs/uploads/moved`;
        response.writeHead(204, { location, range: `0-${bytes.length - 1}` }).end();
        return true;
      }
      if (method !== 'PATCH') return false;
      const id = url.pathname.slice(url.pathname.lastIndexOf('/') + 1);
      patched.push(id);
      if (patched.length > 1) return false;
      const { value } = (await incoming[Symbol.asyncIterator]().next()) as { value: Buffer };
      registry.uploads.set(id, value);
      response.destroy();
      return true;
    });
    await write();
    expect(registry.blobs.get(BLOB_KEY)?.equals(CONTENT)).toBe(true);
    expect(patched).toEqual([expect.any(String), 'moved']);
  });

  test('an upload the registry forgot starts again', async () => {
    let patches = 0;
    fake.current.registry.misbehaviours.push(async ({ method }, response, incoming) => {
      if (method !== 'PATCH' || (patches += 1) > 1) return false;
      await incoming[Symbol.asyncIterator]().next();
      fake.current.registry.uploads.clear();
      response.destroy();
      return true;
    });
    await write();
    expect(fake.current.registry.blobs.get(BLOB_KEY)?.equals(CONTENT)).toBe(true);
  });

  test('a lost answer to the last request does not push twice', async () => {
    let puts = 0;
    fake.current.registry.misbehaviours.push(({ method }, response) => {
      if (method !== 'PUT' || (puts += 1) > 1) return false;
      const [id, bytes] = [...fake.current.registry.uploads][0]!;
      fake.current.registry.uploads.delete(id);
      fake.current.registry.blobs.set(BLOB_KEY, bytes);
      response.destroy();
      return true;
    });
    await write();
    expect(fake.current.registry.requests.filter(({ method }) => method === 'PATCH')).toHaveLength(1);
  });

  test('a registry that stays away ends in an error that names it', async () => {
    fake.current.registry.misbehaviours.push(({ method }, response) => {
      if (method === 'HEAD') return false;
      response.destroy();
      return true;
    });
    await expect(write()).rejects.toMatchObject({
      code: 'NET_UNREACHABLE',
      message: expect.stringContaining(fake.current.registry.host) as string,
    });
  });

  test('a Location on a foreign host gets the blob but no authorization', async () => {
    fake.current.registry.misbehaviours.push(({ method, headers }, response) => {
      if (method !== 'POST' || headers.authorization === undefined) return false;
      response.writeHead(202, { location: `http://${foreign.host}/put-it-here?state=a%20b` }).end();
      return true;
    });
    await write();
    expect(foreign.received.map((bytes) => bytes.length)).toEqual([CONTENT.length, 0]);
    for (const headers of foreign.seen) expect(headers).not.toHaveProperty('authorization');
  });

  test('content that is not what its digest says is never pushed', async () => {
    const wrong = Buffer.from(CONTENT);
    wrong[0]! ^= 1;
    await expect(write(wrong)).rejects.toMatchObject({ code: 'INPUT_DIGEST_MISMATCH' });
    await expect(write(CONTENT.subarray(1))).rejects.toMatchObject({ code: 'INPUT_TRUNCATED' });
    expect(fake.current.registry.blobs.size).toBe(0);
    expect(fake.current.registry.requests.some(({ method }) => method === 'PUT')).toBe(false);
  });

  test('an abort ends it', async () => {
    const controller = new AbortController();
    const options = { signal: controller.signal, onBytes: () => controller.abort() };
    await expect(fake.current.store.writeBlob(BLOB, () => streamOf(CONTENT), options)).rejects.toMatchObject({
      code: 'INTERRUPTED',
    });
    expect(fake.current.registry.blobs.size).toBe(0);
  });

  test('a blob that is there is not sent', async () => {
    fake.current.registry.blobs.set(BLOB_KEY, CONTENT);
    await write();
    expect(fake.current.registry.requests.some(({ method }) => method === 'POST')).toBe(false);
  });

  const limitRequests = (maxBytes: number): string[] => {
    const accepted: string[] = [];
    fake.current.registry.misbehaviours.push(({ method, headers }, response, incoming) => {
      if (method !== 'PATCH') return false;
      if (Number(headers['content-length']) <= maxBytes) {
        accepted.push(headers['content-range'] ?? '');
        return false;
      }
      response.writeHead(413, { connection: 'close' }).end();
      incoming.resume();
      return true;
    });
    return accepted;
  };

  test('a blob that is too large for a proxy goes in pieces, and its content is read on, not again', async () => {
    const accepted = limitRequests(800_000);
    let opened = 0;
    let movedBytes = 0;
    const open = () => {
      opened += 1;
      return streamOf(CONTENT);
    };
    await fake.current.store.writeBlob(BLOB, open, { onBytes: (bytes) => (movedBytes += bytes) });
    expect(fake.current.registry.blobs.get(BLOB_KEY)?.equals(CONTENT)).toBe(true);
    expect(movedBytes).toBe(CONTENT.length);
    expect(accepted).toEqual(['0-749999', '750000-1499999', '1500000-2249999', '2250000-2999999']);
    // Once whole, once in halves, once in quarters.
    expect(opened).toBeLessThanOrEqual(3);
  });

  test('a registry that takes no piece at all says so', async () => {
    limitRequests(1000);
    await expect(write()).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    expect(fake.current.registry.blobs.size).toBe(0);
  });
});
