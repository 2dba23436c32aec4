// The token flow against a registry that asks for tokens.
import type { ServerResponse } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_REGISTRY_ATTEMPTS } from '#src/base/limits.ts';
import { parseReference } from '#src/oci/reference.ts';
import type { Credentials } from '#src/registry/credentials.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { checkRealm } from '#src/registry/token.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { copyImage } from '#src/store/copy.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { fakeImage, storeImage } from '../fakes/image.ts';
import { startFakeRegistry, type FakeRegistry, type RecordedRequest } from '../fakes/registry.ts';
import type { FakeBearer } from '../fakes/registry-authentication.ts';
import { recordedTiming, type RecordedTiming } from '../fakes/retry-timing.ts';

const LOGIN = { user: 'u', password: 'p:q' };

let registry: FakeRegistry | undefined;
let timing: RecordedTiming;
afterEach(() => registry?.stop());

async function start(bearer: Partial<FakeBearer> = {}): Promise<FakeBearer> {
  const authentication: FakeBearer = { kind: 'bearer', field: 'token', issued: new Map(), ...bearer };
  registry = await startFakeRegistry(authentication);
  timing = recordedTiming();
  return authentication;
}

function open(name = 'team/app', credentials?: Credentials): BlobStore {
  return openRegistry(parseReference(`${registry!.host}/${name}:v1`), {
    timing,
    credentials: () => Promise.resolve(credentials),
  });
}

async function pushed(store: BlobStore): Promise<void> {
  const source = createMemoryStore();
  await storeImage(source, fakeImage([1000, 2000, 3000]));
  await copyImage(source, store, { tag: 'v1' });
}

function tokenRequests(): RecordedRequest[] {
  return registry!.requests.filter(({ url }) => url.pathname === '/token');
}

describe('token flow', () => {
  test.each(['token', 'access_token'] as const)('a token in the field %s is taken', async (field) => {
    await start({ field });
    await pushed(open());
    await open().readManifest();
  });

  test('many requests at once share one token', async () => {
    await start({ expiresInSeconds: 300 });
    await pushed(open());
    expect(tokenRequests().map(({ url }) => url.searchParams.getAll('scope'))).toEqual([
      ['repository:team/app:pull,push'],
    ]);
    expect(tokenRequests()[0]?.url.searchParams.get('service')).toBe('fake');
  });

  test('an expired token is renewed before it is used again', async () => {
    await start({ expiresInSeconds: 300 });
    const store = open();
    await pushed(store);
    await store.readManifest();
    expect(tokenRequests()).toHaveLength(2);
    timing.advance(295_000);
    await store.readManifest();
    expect(tokenRequests()).toHaveLength(3);
  });

  test('a token that does not say how long it lives is good for a minute', async () => {
    await start();
    const store = open();
    await pushed(store);
    await store.readManifest();
    const asked = tokenRequests().length;
    timing.advance(45_000);
    await store.readManifest();
    expect(tokenRequests()).toHaveLength(asked);
    timing.advance(16_000);
    await store.readManifest();
    expect(tokenRequests()).toHaveLength(asked + 1);
  });

  test('a token the registry forgot is replaced', async () => {
    const authentication = await start({ expiresInSeconds: 300 });
    const store = open();
    await pushed(store);
    authentication.issued.clear();
    await store.readManifest();
    authentication.issued.clear();
    await store.readManifest();
  });

  test('a token that ends between two requests of an upload is replaced', async () => {
    const authentication = await start({ expiresInSeconds: 300 });
    registry!.misbehaviours.push(({ method }) => {
      if (method === 'PATCH' && authentication.issued.size === 1) {
        authentication.issued.clear();
        authentication.issued.set('spent', []);
      }
      return false;
    });
    const source = createMemoryStore();
    const image = fakeImage([8_000_000]);
    await storeImage(source, image);
    await copyImage(source, open(), { tag: 'v1' });
    expect(registry!.blobs.get(`team/app@${image.layers[0]!.digest}`)).toHaveLength(8_000_000);
  });

  test('the password goes to the token server alone', async () => {
    await start({ login: LOGIN });
    await pushed(open('team/app', { kind: 'password', username: LOGIN.user, password: LOGIN.password }));
    for (const { url, headers } of registry!.requests) {
      const expected = url.pathname === '/token' ? /^Basic / : /^Bearer token-/;
      if (headers.authorization !== undefined) expect(headers.authorization).toMatch(expected);
    }
    expect(tokenRequests().length).toBeGreaterThan(0);
  });

  test('where Basic is offered beside Bearer, the registry never sees the password', async () => {
    await start({ login: LOGIN });
    registry!.misbehaviours.push(({ url, headers }, response) => {
      if (url.pathname === '/token' || headers.authorization !== undefined) return false;
      const bearer = `Bearer realm="http://${url.host}/token",service="fake"`;
      response.writeHead(401, { 'www-authenticate': `Basic realm="fake", ${bearer}` }).end();
      return true;
    });
    await pushed(open('team/app', { kind: 'password', username: LOGIN.user, password: LOGIN.password }));
    const sent = registry!.requests
      .filter(({ url }) => url.pathname !== '/token')
      .flatMap(({ headers }) => headers.authorization ?? []);
    expect(sent.length).toBeGreaterThan(0);
    for (const authorization of sent) expect(authorization).toMatch(/^Bearer token-/);
  });

  test('a registry that asks for more than we need gets that too', async () => {
    await start();
    const image = fakeImage();
    const { mediaType } = image.manifest.descriptor;
    registry!.manifests.set('team/app@v1', { mediaType, bytes: image.manifest.bytes });
    registry!.misbehaviours.push(({ url, headers }, response) => {
      if (url.pathname === '/token' || headers.authorization !== undefined) return false;
      const scope = 'repository:team/app:pull repository:team/base:pull';
      const bearer = `Bearer realm="http://${url.host}/token",scope="${scope}"`;
      response.writeHead(401, { 'www-authenticate': bearer }).end();
      return true;
    });
    await open().readManifest();
    expect(tokenRequests().map(({ url }) => url.searchParams.getAll('scope'))).toEqual([
      ['repository:team/app:pull', 'repository:team/base:pull'],
    ]);
  });

  test('a wrong password is said once, with what to do', async () => {
    await start({ login: LOGIN });
    const store = open('team/app', { kind: 'password', username: 'u', password: 'hunter2' });
    await expect(store.readManifest()).rejects.toMatchObject({
      code: 'NET_UNAUTHORIZED',
      message: expect.not.stringContaining('hunter2') as string,
      hint: expect.stringContaining('docker login') as string,
    });
    expect(tokenRequests()).toHaveLength(1);
  });

  test('an identity token is exchanged by POST and never in a URL', async () => {
    await start({ refreshToken: 'refresh-me', login: LOGIN });
    await pushed(open('team/app', { kind: 'identity-token', token: 'refresh-me' }));
    expect(tokenRequests().map(({ method }) => method)).toEqual(['POST']);
    for (const { url } of registry!.requests) expect(url.href).not.toContain('refresh-me');
  });

  test('a mount asks for both repositories', async () => {
    await start();
    const first = open('team/first');
    await pushed(first);
    const kinds: string[] = [];
    await copyImage(first, open('team/second'), { tag: 'v1', onEvent: ({ kind }) => kinds.push(kind) });
    expect(kinds).toEqual(['mounted', 'mounted', 'mounted', 'mounted', 'manifest']);
    const scopes = tokenRequests().map(({ url }) => url.searchParams.getAll('scope'));
    expect(scopes).toContainEqual(['repository:team/first:pull', 'repository:team/second:pull,push']);
  });

  test.each([
    ['that is away', (response: ServerResponse) => response.destroy()],
    ['that is overloaded', (response: ServerResponse) => response.writeHead(503).end()],
  ])('a token server %s is asked as often as a registry', async (_, answer) => {
    await start();
    registry!.misbehaviours.push(({ url }, response) => {
      if (url.pathname !== '/token') return false;
      answer(response);
      return true;
    });
    await expect(open().readManifest()).rejects.toMatchObject({
      code: expect.stringMatching(/^NET_(?:UNREACHABLE|REGISTRY)$/) as string,
    });
    expect(tokenRequests()).toHaveLength(MAX_REGISTRY_ATTEMPTS);
    expect(timing.sleptMs).toHaveLength(MAX_REGISTRY_ATTEMPTS - 1);
  });

  test('an unreadable token answer is one clear line', async () => {
    await start();
    registry!.misbehaviours.push(({ url }, response) => {
      if (url.pathname !== '/token') return false;
      response.writeHead(200).end('{"token":"a b"}');
      return true;
    });
    await expect(open().readManifest()).rejects.toMatchObject({ code: 'NET_REGISTRY' });
  });

  test('a flood of a token answer is refused, a redirect of the token server is not followed', async () => {
    await start();
    registry!.misbehaviours.push(({ url }, response) => {
      if (url.pathname !== '/token') return false;
      response.writeHead(200).end(Buffer.alloc(200_000, 32));
      return true;
    });
    await expect(open().readManifest()).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    registry!.misbehaviours.unshift(({ url }, response) => {
      if (url.pathname !== '/token') return false;
      response.writeHead(302, { location: 'http://127.0.0.1:1/steal' }).end();
      return true;
    });
    await expect(open().readManifest()).rejects.toMatchObject({ code: 'NET_REGISTRY' });
  });

  test('an unsafe realm is refused without a retry', async () => {
    await start({ realm: 'http://169.254.169.254/token' });
    await expect(open().readManifest()).rejects.toMatchObject({ code: 'NET_REGISTRY' });
    expect(timing.sleptMs).toEqual([]);
  });
});

describe('checkRealm', () => {
  test.each([
    ['https://auth.example.com/token', 'https://registry.example.com'],
    ['https://registry.example.com:444/token', 'https://registry.example.com'],
    ['http://127.0.0.1:5001/token', 'http://127.0.0.1:5000'],
    ['https://10.0.0.2/token', 'https://10.0.0.1'],
    ['http://auth.corp.example/token', 'http://10.0.0.1:5000'],
  ])('%s may be named by %s', (realm, origin) => {
    expect(checkRealm(realm, new URL(origin)).href).toBe(realm);
  });

  test('a user and a password in it are left out', () => {
    const origin = new URL('https://registry.example.com');
    const { href } = checkRealm('https://u:p@auth.example.com/token', origin);
    expect(href).toBe('https://auth.example.com/token');
  });

  test.each([
    ['http://auth.example.com/token', 'https://registry.example.com'],
    ['https://127.0.0.1/token', 'https://registry.example.com'],
    ['https://localhost/token', 'https://registry.example.com'],
    ['https://10.0.0.1/token', 'https://registry.example.com'],
    ['https://192.168.1.1/token', 'https://registry.example.com'],
    ['https://[::1]/token', 'https://registry.example.com'],
    ['https://[fd00::1]/token', 'https://registry.example.com'],
    ['https://[::ffff:10.0.0.1]/token', 'https://registry.example.com'],
    ['https://0x7f.1/token', 'https://registry.example.com'],
    ['http://169.254.169.254/token', 'http://127.0.0.1:5000'],
    ['file:///etc/passwd', 'http://127.0.0.1:5000'],
    ['not a url', 'https://registry.example.com'],
    [undefined, 'https://registry.example.com'],
  ])('%s may not be named by %s', (realm, origin) => {
    expect(() => checkRealm(realm, new URL(origin))).toThrow(LatchkeyError);
  });
});
