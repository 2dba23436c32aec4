// Hosts that a registry sends us to, by address and by name.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseReference } from '#src/oci/reference.ts';
import { isWithinReach, withinZone } from '#src/registry/network-zone.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { createTokenSource } from '#src/registry/token.ts';
import { BLOB, CONTENT, NAME } from '../fakes/fake-repository.ts';
import { bytesOf, streamOf } from '../fakes/image.ts';
import { startFakeRegistry, type FakeRegistry } from '../fakes/registry.ts';
import { recordedTiming } from '../fakes/retry-timing.ts';

const ADDRESSES: Readonly<Record<string, readonly string[]>> = {
  'registry.example.com': ['203.0.113.5'],
  'registry.corp.example': ['10.0.0.5'],
  'storage.example.com': ['198.51.100.7', '2001:db8::7'],
  'inside.example.com': ['203.0.113.8', '192.168.1.1'],
  'loop.example.com': ['127.0.0.1'],
  'six.example.com': ['fd00::1'],
  'mapped.example.com': ['::ffff:10.0.0.1'],
  'metadata.example.com': ['169.254.169.254'],
  'nowhere.example.com': [],
};

async function resolve(hostname: string): Promise<readonly string[]> {
  const found = ADDRESSES[hostname];
  if (found === undefined) throw new Error('ENOTFOUND');
  return found;
}

describe('isWithinReach', () => {
  test.each([
    ['storage.example.com', 'registry.example.com'],
    ['storage.example.com', 'registry.corp.example'],
    ['203.0.113.9', 'registry.example.com'],
    ['10.0.0.9', 'registry.corp.example'],
    ['inside.example.com', 'registry.corp.example'],
    ['10.0.0.9', '10.0.0.5'],
    ['127.0.0.1', '127.0.0.1'],
    ['unknown.example.com', 'registry.example.com'],
    ['nowhere.example.com', 'registry.example.com'],
  ])('%s may be named by %s', async (hostname, from) => {
    expect(await isWithinReach(hostname, from, resolve)).toBe(true);
  });

  test.each([
    ['10.0.0.9', 'registry.example.com'],
    ['localhost', 'registry.example.com'],
    ['[::1]', 'registry.example.com'],
    ['inside.example.com', 'registry.example.com'],
    ['loop.example.com', 'registry.example.com'],
    ['six.example.com', 'registry.example.com'],
    ['mapped.example.com', 'registry.example.com'],
    ['metadata.example.com', 'registry.example.com'],
    ['metadata.example.com', 'registry.corp.example'],
    ['169.254.169.254', '10.0.0.5'],
    ['10.0.0.9', 'unknown.example.com'],
  ])('%s may not be named by %s', async (hostname, from) => {
    expect(await isWithinReach(hostname, from, resolve)).toBe(false);
  });
});

describe('a token server named by its address', () => {
  /** The hosts that were asked, for a registry on that host. */
  async function askedBy(registry: string, realm: string): Promise<string[]> {
    const origin = new URL(`https://${registry}`);
    const asked: string[] = [];
    const tokens = createTokenSource({
      registry,
      origin,
      transport: withinZone(
        async ({ url }) => {
          asked.push(url.host);
          return { status: 200, headers: new Headers(), url, bytes: Buffer.from('{"token":"t"}') };
        },
        origin,
        resolve,
      ),
      clock: recordedTiming().clock,
      resolveHost: resolve,
    });
    const challenge = { scheme: 'bearer', parameters: new Map([['realm', realm]]) };
    await tokens.get(challenge, [], { kind: 'password', username: 'u', password: 'p' });
    return asked;
  }

  test('may be in the private network that the name of the registry leads to', async () => {
    expect(await askedBy('registry.corp.example', 'https://10.0.0.6/token')).toEqual(['10.0.0.6']);
  });

  test.each([
    ['https://10.0.0.6/token', 'registry.example.com'],
    ['https://[fd00::6]/token', 'registry.example.com'],
    ['https://127.0.0.1/token', 'registry.example.com'],
    ['https://10.0.0.6/token', 'unknown.example.com'],
    ['https://169.254.169.254/token', 'registry.example.com'],
    ['https://169.254.169.254/token', 'registry.corp.example'],
    ['http://10.0.0.6/token', 'registry.corp.example'],
  ])('%s may not be named by %s', async (realm, registry) => {
    await expect(askedBy(registry, realm)).rejects.toMatchObject({
      code: 'NET_REGISTRY',
      message: expect.stringContaining('not safe') as string,
    });
  });
});

describe('a registry', () => {
  let registry: FakeRegistry;
  beforeEach(async () => {
    registry = await startFakeRegistry();
  });
  afterEach(() => registry.stop());

  const store = () =>
    openRegistry(parseReference(`${registry.host}/${NAME}:v1`), {
      timing: recordedTiming(),
      resolveHost: resolve,
    });
  const refused = { code: 'NET_REGISTRY', message: expect.stringContaining('private network') as string };

  test('cannot send a download to a metadata service by name', async () => {
    registry.misbehaviours.push(({ url }, response) => {
      if (!url.pathname.includes('/blobs/')) return false;
      response.writeHead(307, { location: 'http://metadata.example.com/latest' }).end();
      return true;
    });
    await expect(bytesOf(store().openBlob(BLOB))).rejects.toMatchObject(refused);
  });

  test('cannot have an upload sent there', async () => {
    registry.misbehaviours.push(({ method }, response) => {
      if (method !== 'POST') return false;
      response.writeHead(202, { location: 'http://metadata.example.com/latest' }).end();
      return true;
    });
    await expect(store().writeBlob(BLOB, () => streamOf(CONTENT))).rejects.toMatchObject(refused);
  });

  test('cannot have a login sent there', async () => {
    registry.misbehaviours.push((_, response) => {
      response
        .writeHead(401, { 'www-authenticate': 'Bearer realm="http://metadata.example.com/token"' })
        .end();
      return true;
    });
    await expect(store().readManifest()).rejects.toMatchObject(refused);
  });
});
