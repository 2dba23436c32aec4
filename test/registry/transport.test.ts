// Answers that are encoded, endless, silent or dripping.
import { describe, expect, test } from 'vitest';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { BLOB, BLOB_KEY, CONTENT, NAME, useFakeRepository } from '../fakes/fake-repository.ts';
import { bytesOf, fakeImage, streamOf } from '../fakes/image.ts';
import { readBody } from '../fakes/registry.ts';
import { drip, flood, type Flood } from './endless-body.ts';

const FLOOD_BYTES = 256 * 1024 * 1024;
const fake = useFakeRepository();

test('everything is asked for as it is stored', async () => {
  const { registry, store } = fake.current;
  await store.writeBlob(BLOB, () => streamOf(CONTENT));
  await store.writeManifest(fakeImage().manifest, 'v1');
  await store.readManifest('v1');
  await bytesOf(store.openBlob(BLOB));
  const methods = new Set(registry.requests.map(({ method }) => method));
  expect([...methods].sort()).toEqual(['GET', 'HEAD', 'PATCH', 'POST', 'PUT']);
  for (const { headers } of registry.requests) expect(headers['accept-encoding']).toBe('identity');
});

describe('an endless answer', () => {
  test('that is an error is cut', async () => {
    let sent: Flood | undefined;
    fake.current.registry.misbehaviours.push((_, response) => {
      response.writeHead(418);
      sent = flood(response, FLOOD_BYTES);
      return true;
    });
    await expect(fake.current.store.readManifest()).rejects.toMatchObject({
      code: 'NET_REGISTRY',
      message: expect.stringContaining('HTTP 418') as string,
    });
    expect(sent?.sentBytes).toBeLessThan(FLOOD_BYTES);
  });

  test('to an upload is cut, and the upload goes on', async () => {
    const { registry, store } = fake.current;
    let sent: Flood | undefined;
    registry.misbehaviours.push(async ({ method, url, headers }, response, incoming) => {
      if (method !== 'PATCH' || headers.authorization === undefined) return false;
      registry.uploads.set(url.pathname.slice(url.pathname.lastIndexOf('/') + 1), await readBody(incoming));
      response.writeHead(202, { location: url.pathname });
      sent = flood(response, FLOOD_BYTES);
      return true;
    });
    await store.writeBlob(BLOB, () => streamOf(CONTENT));
    expect(registry.blobs.get(BLOB_KEY)?.equals(CONTENT)).toBe(true);
    expect(sent?.sentBytes).toBeLessThan(FLOOD_BYTES);
  });
});

describe.each(['/manifests/', '/token'])('an answer from %s', (path) => {
  test.each(['is silent', 'drips'])('that %s is given up', async (kind) => {
    const { registry, timing } = fake.current;
    let heldUp = 0;
    registry.misbehaviours.push(({ url }, response) => {
      if (!url.pathname.includes(path)) {
        const challenge = `Bearer realm="http://${registry.host}/token"`;
        response.writeHead(401, { 'www-authenticate': challenge }).end();
        return true;
      }
      heldUp += 1;
      if (kind === 'drips') {
        response.writeHead(200);
        drip(response, () => response.write(' '));
      }
      return true;
    });
    const store = openRegistry(parseReference(`${registry.host}/${NAME}:v1`), {
      timing,
      answerTimeoutMs: 100,
    });
    await expect(store.readManifest()).rejects.toMatchObject({ code: 'NET_TIMEOUT' });
    expect(heldUp).toBeGreaterThan(0);
  });
});
