// A registry that cuts, drips, storms and babbles.
import { describe, expect, test, vi } from 'vitest';
import { MAX_REGISTRY_ATTEMPTS, MAX_RETRY_AFTER_MS, MAX_TRANSFER_CUTS } from '#src/base/limits.ts';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { systemRetryTiming } from '#src/registry/retry.ts';
import { BLOB, BLOB_KEY, CONTENT, NAME, useFakeRepository } from '../fakes/fake-repository.ts';
import { bytesOf, fakeImage, streamOf } from '../fakes/image.ts';

const fake = useFakeRepository();
const TENTHS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(
  (tenth) => [tenth, Math.floor((CONTENT.length * tenth) / 10)] as const,
);

describe('a connection cut', () => {
  test.each(TENTHS)('after %i tenths of an upload', async (_, cutBytes) => {
    const { registry, store } = fake.current;
    let cuts = 0;
    registry.misbehaviours.push(async ({ method, url, headers }, response, incoming) => {
      if (method !== 'PATCH' || headers.authorization === undefined || (cuts += 1) > 1) return false;
      const id = url.pathname.slice(url.pathname.lastIndexOf('/') + 1);
      const chunks: Buffer[] = [];
      let sizeBytes = 0;
      for await (const chunk of incoming) {
        chunks.push(chunk as Buffer);
        sizeBytes += (chunk as Buffer).length;
        if (sizeBytes >= cutBytes) break;
      }
      registry.uploads.set(id, Buffer.concat(chunks).subarray(0, cutBytes));
      response.destroy();
      return true;
    });
    await store.writeBlob(BLOB, () => streamOf(CONTENT));
    expect(registry.blobs.get(BLOB_KEY)?.equals(CONTENT)).toBe(true);
    const starts = registry.requests
      .filter(({ method }) => method === 'PATCH')
      .map(({ headers }) => Number(headers['content-range']?.split('-')[0]));
    // What had arrived is not sent again; of a whole blob only the closing request is left.
    expect(starts).toEqual(cutBytes === CONTENT.length ? [0] : [0, cutBytes]);
  });

  test.each(TENTHS)('after %i tenths of a download', async (_, cutBytes) => {
    const { registry, store } = fake.current;
    registry.blobs.set(BLOB_KEY, CONTENT);
    const ranges: (string | undefined)[] = [];
    registry.misbehaviours.push(({ method, headers }, response) => {
      if (method !== 'GET' || headers.authorization === undefined) return false;
      ranges.push(headers.range);
      if (ranges.length > 1) return false;
      response.writeHead(200, { 'content-length': CONTENT.length + (cutBytes === CONTENT.length ? 1 : 0) });
      response.write(CONTENT.subarray(0, cutBytes), () => setTimeout(() => response.destroy(), 20));
      return true;
    });
    expect((await bytesOf(store.openBlob(BLOB))).equals(CONTENT)).toBe(true);
    expect(ranges[0]).toBeUndefined();
    // The kernel may have dropped the end of what was sent before the cut.
    if (ranges.length > 1)
      expect(Number(/^bytes=(\d+)-$/.exec(ranges[1] ?? '')?.[1])).toBeLessThanOrEqual(cutBytes);
    expect(ranges.length).toBeLessThanOrEqual(2);
  });
});

describe('a slow download', () => {
  const open = (stallTimeoutMs: number) =>
    openRegistry(parseReference(`${fake.current.registry.host}/${NAME}:v1`), {
      timing: { ...systemRetryTiming, sleep: () => Promise.resolve() },
      credentials: () => Promise.resolve({ kind: 'password', username: 'u', password: 'p' }),
      stallTimeoutMs,
    });

  test.each([
    ['that drips', 10],
    ['that is silent', 1_000_000],
  ])('%s is given up', async (_, intervalMs) => {
    let connections = 0;
    fake.current.registry.misbehaviours.push(({ method, headers }, response) => {
      if (method !== 'GET' || headers.authorization === undefined) return false;
      connections += 1;
      response.writeHead(headers.range === undefined ? 200 : 206, {
        'content-length': CONTENT.length,
        ...(headers.range === undefined ? {} : { 'content-range': `${headers.range.replace('=', ' ')}9/10` }),
      });
      response.flushHeaders();
      let position = Number(/\d+/.exec(headers.range ?? '0')?.[0]);
      const timer = setInterval(
        () => response.write(CONTENT.subarray(position, (position += 1))),
        intervalMs,
      );
      response.once('close', () => clearInterval(timer));
      return true;
    });
    await expect(bytesOf(open(150).openBlob(BLOB))).rejects.toMatchObject({ code: 'NET_TIMEOUT' });
    expect(connections).toBe(MAX_TRANSFER_CUTS + 1);
  });

  test('a consumer that takes its time is not the line', async () => {
    fake.current.registry.blobs.set(BLOB_KEY, CONTENT);
    // A turn of the event loop can take any time, in which nobody is to be given up.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      let gotBytes = 0;
      for await (const chunk of open(1000).openBlob(BLOB)) {
        if (gotBytes === 0) vi.advanceTimersByTime(5000);
        gotBytes += chunk.length;
      }
      expect(gotBytes).toBe(CONTENT.length);
    } finally {
      vi.useRealTimers();
    }
    expect(fake.current.registry.requests.filter(({ method }) => method === 'GET')).toHaveLength(2);
  });
});

describe('a storm of 429', () => {
  const storm = (retryAfter: string): void => {
    fake.current.registry.misbehaviours.push((_, response) => {
      response.writeHead(429, { 'retry-after': retryAfter }).end();
      return true;
    });
  };
  const refused = { code: 'NET_REGISTRY', hint: expect.stringContaining('limits the rate') as string };

  test('ends after so many tries, each after the wait that was asked for', async () => {
    storm('7');
    await expect(fake.current.store.readManifest()).rejects.toMatchObject(refused);
    expect(fake.current.registry.requests).toHaveLength(MAX_REGISTRY_ATTEMPTS);
    expect(fake.current.timing.sleptMs).toEqual(
      Array.from({ length: MAX_REGISTRY_ATTEMPTS - 1 }, () => 7000),
    );
  });

  test('understands dates', async () => {
    storm(new Date(fake.current.timing.clock.nowMs() + 9000).toUTCString());
    await expect(fake.current.store.readManifest()).rejects.toMatchObject(refused);
    expect(fake.current.timing.sleptMs[0]).toBe(9000);
  });

  test('is not waited out when it asks for hours', async () => {
    storm(String(MAX_RETRY_AFTER_MS / 1000 + 1));
    await expect(fake.current.store.readManifest()).rejects.toMatchObject(refused);
    expect(fake.current.registry.requests).toHaveLength(1);
  });

  test('that passes is survived, for uploads too', async () => {
    let refusals = 4;
    fake.current.registry.misbehaviours.push(({ method }, response) => {
      if (method === 'HEAD' || (refusals -= 1) < 0) return false;
      response.writeHead(429).end();
      return true;
    });
    await fake.current.store.writeBlob(BLOB, () => streamOf(CONTENT));
    await fake.current.store.writeManifest(fakeImage().manifest, 'v1');
    expect(fake.current.registry.blobs.get(BLOB_KEY)?.equals(CONTENT)).toBe(true);
  });
});

test.each([
  ['unclosed', 'Bearer realm="unclosed'],
  ['bare', 'Bearer'],
  ['empty', 'Bearer realm=""'],
  ['script', 'Bearer realm="javascript:alert(1)"'],
  ['punctuation', ',,,=,"'],
  ['oversized', `Bearer realm="http://x/${'a'.repeat(10_000)}"`],
  ['unknown', 'Negotiate YII=, Digest nonce="x"'],
])('a challenge that is %s ends in one clear line', async (_, challenge) => {
  fake.current.registry.misbehaviours.push((_, response) => {
    response.writeHead(401, { 'www-authenticate': challenge }).end();
    return true;
  });
  await expect(fake.current.store.readManifest()).rejects.toMatchObject({
    code: expect.stringMatching(/^NET_(?:REGISTRY|UNAUTHORIZED)$/) as string,
  });
  expect(fake.current.registry.requests).toHaveLength(1);
});
