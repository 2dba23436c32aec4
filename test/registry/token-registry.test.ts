// Debian's docker-registry with tokens that a token server of our own signs.
import { execFileSync } from 'node:child_process';
import { randomUUID, X509Certificate } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { importPKCS8, SignJWT } from 'jose';
import { RegistryClientV2, parseRepoAndRef } from 'oci-registry-client';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseReference } from '#src/oci/reference.ts';
import type { Credentials } from '#src/registry/credentials.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { copyImage } from '#src/store/copy.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import {
  dockerRegistrySkipReason,
  startDockerRegistry,
  type DockerRegistry,
} from '../../lab/docker-registry.ts';
import { bytesOf, fakeImage, storeImage } from '../fakes/image.ts';
import { readBody } from '../fakes/registry.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const ISSUER = 'latchkey-test';
const SERVICE = 'test-registry';
const LOGIN = { username: 'release', password: 'correct:horse' };
const REFRESH_TOKEN = 'refresh-me';
const LIFETIME_SECONDS = 60;
const skipReason = dockerRegistrySkipReason();

interface AskedToken {
  readonly method: string;
  readonly scopes: readonly string[];
}

describe.skipIf(skipReason !== undefined)(`docker-registry with tokens (${skipReason ?? ''})`, () => {
  const directory = temporaryDirectory();
  const asked: AskedToken[] = [];
  let server: Server;
  let registry: DockerRegistry;
  let signToken: (scopes: readonly string[]) => Promise<string>;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const form = new URLSearchParams((await readBody(request)).toString());
    const isPost = request.method === 'POST';
    const basic = `Basic ${Buffer.from(`${LOGIN.username}:${LOGIN.password}`).toString('base64')}`;
    const isKnown = isPost
      ? form.get('grant_type') === 'refresh_token' && form.get('refresh_token') === REFRESH_TOKEN
      : request.headers.authorization === basic;
    const scopes = (isPost ? form : url.searchParams).getAll('scope').flatMap((scope) => scope.split(' '));
    asked.push({ method: request.method ?? '', scopes });
    const service = (isPost ? form : url.searchParams).get('service');
    response.writeHead(isKnown && service === SERVICE ? 200 : 401, { 'content-type': 'application/json' });
    const token = isKnown ? await signToken(scopes) : undefined;
    response.end(JSON.stringify(isPost ? { access_token: token, expires_in: LIFETIME_SECONDS } : { token }));
  }

  beforeEach(async () => {
    asked.length = 0;
    const [keyFile, certificateFile] = [join(directory(), 'key.pem'), join(directory(), 'certificate.pem')];
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=tokens'],
        ...['-keyout', keyFile, '-out', certificateFile],
      ],
      { stdio: 'ignore' },
    );
    const key = await importPKCS8(await readFile(keyFile, 'utf8'), 'RS256');
    const chain = [new X509Certificate(await readFile(certificateFile)).raw.toString('base64')];
    signToken = (scopes) => {
      const access = scopes.map((scope) => {
        const [type = '', name = '', actions = ''] = scope.split(':');
        return { type, name, actions: actions.split(',') };
      });
      return new SignJWT({ access, jti: randomUUID() })
        .setProtectedHeader({ alg: 'RS256', typ: 'JWT', x5c: chain })
        .setIssuer(ISSUER)
        .setAudience(SERVICE)
        .setSubject(LOGIN.username)
        .setIssuedAt()
        .setNotBefore('-1 minute')
        .setExpirationTime(`${LIFETIME_SECONDS} seconds`)
        .sign(key);
    };
    server = createServer((request, response) => void answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const realm = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`;
    registry = await startDockerRegistry({
      token: { realm, service: SERVICE, issuer: ISSUER, certificateFile },
    });
  });
  afterEach(async () => {
    await registry.stop();
    server.closeAllConnections();
    server.close();
  });

  function open(name: string, credentials?: Credentials): BlobStore {
    const reference = parseReference(`${registry.host}/${name}:v1`);
    return openRegistry(reference, { credentials: () => Promise.resolve(credentials) });
  }

  const password: Credentials = { kind: 'password', ...LOGIN };

  test('a push asks for one token, a pull for another, a mount for both repositories', async () => {
    const source = createMemoryStore();
    const image = fakeImage([100_000, 5]);
    await storeImage(source, image);
    const first = open('team/first', password);
    await copyImage(source, first, { tag: 'v1' });
    expect(asked).toEqual([{ method: 'GET', scopes: ['repository:team/first:pull,push'] }]);
    await copyImage(first, createMemoryStore());
    expect(asked.slice(1)).toEqual([{ method: 'GET', scopes: ['repository:team/first:pull'] }]);
    const kinds: string[] = [];
    await copyImage(first, open('team/second', password), {
      tag: 'v1',
      onEvent: ({ kind }) => kinds.push(kind),
    });
    expect(kinds).toEqual(['mounted', 'mounted', 'mounted', 'manifest']);
    expect(asked.map(({ scopes }) => scopes)).toContainEqual([
      'repository:team/first:pull',
      'repository:team/second:pull,push',
    ]);
  });

  test('an identity token is exchanged by POST', async () => {
    const source = createMemoryStore();
    await storeImage(source, fakeImage());
    await copyImage(source, open('team/app', { kind: 'identity-token', token: REFRESH_TOKEN }), {
      tag: 'v1',
    });
    expect(asked).toEqual([{ method: 'POST', scopes: ['repository:team/app:pull,push'] }]);
    for (const line of await registry.requests()) expect(line).not.toContain(REFRESH_TOKEN);
  });

  test('a wrong password and none are refused by the token server, in one line', async () => {
    for (const credentials of [undefined, { ...password, password: 'hunter2' }]) {
      await expect(open('team/app', credentials).readManifest()).rejects.toMatchObject({
        code: 'NET_UNAUTHORIZED',
        message: expect.not.stringContaining('hunter2') as string,
      });
    }
    expect(asked).toHaveLength(2);
  });

  test('an independent client reads what we pushed', async () => {
    const source = createMemoryStore();
    const image = fakeImage([50_000]);
    await storeImage(source, image);
    await copyImage(source, open('team/peer', password), { tag: 'v1' });
    const peer = new RegistryClientV2({
      repo: parseRepoAndRef(`${registry.host}/team/peer:v1`),
      insecure: true,
      acceptOCIManifests: true,
      ...LOGIN,
    });
    const { manifest } = await peer.getManifest({ ref: 'v1' });
    expect(manifest).toEqual(JSON.parse(Buffer.from(image.manifest.bytes).toString()));
    const [layer] = image.layers;
    const { stream } = await peer.createBlobReadStream({ digest: layer!.digest });
    const bytes = await bytesOf(stream as AsyncIterable<Uint8Array>);
    expect(bytes.equals(image.blobs.get(layer!.digest)!)).toBe(true);
  });
});
