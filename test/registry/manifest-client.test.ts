// Manifests, and error answers, of a registry that lies or floods.
import { describe, expect, test } from 'vitest';
import { MAX_MANIFEST_BYTES, MAX_REGISTRY_ATTEMPTS } from '#src/base/limits.ts';
import { parseReference } from '#src/oci/reference.ts';
import { hasManifest } from '#src/registry/manifest-client.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { openRepository } from '#src/registry/repository.ts';
import { NAME, useFakeRepository } from '../fakes/fake-repository.ts';
import { fakeImage } from '../fakes/image.ts';
import { sendError, sha256 } from '../fakes/registry.ts';
import { flood, type Flood } from './endless-body.ts';

const fake = useFakeRepository();

describe('manifests', () => {
  const image = fakeImage();

  test('a manifest is looked for without reading it', async () => {
    const { registry, timing } = fake.current;
    const { digest } = image.manifest.descriptor;
    registry.manifests.set(`${NAME}@v1`, { mediaType: 'text/plain', bytes: image.manifest.bytes });
    registry.manifests.set(`${NAME}@other`, { mediaType: 'text/plain', bytes: fakeImage().manifest.bytes });
    const repository = openRepository(registry.host, NAME, {
      timing,
      credentials: () => Promise.resolve({ kind: 'password', username: 'u', password: 'p' }),
    });
    expect(await hasManifest(repository, digest, 'v1')).toBe(true);
    expect(await hasManifest(repository, digest, 'v2')).toBe(false);
    expect(await hasManifest(repository, digest, 'other')).toBe(false);
    expect(await hasManifest(repository, digest, undefined)).toBe(false);
    expect(registry.requests.every(({ method }) => method === 'HEAD')).toBe(true);
  });

  test('other bytes than the digest says are refused', async () => {
    const { digest, mediaType } = image.manifest.descriptor;
    const other = { mediaType, bytes: fakeImage().manifest.bytes };
    fake.current.registry.manifests.set(`${NAME}@${digest}`, other);
    await expect(fake.current.store.readManifest(digest)).rejects.toMatchObject({
      code: 'INPUT_DIGEST_MISMATCH',
    });
  });

  test('under a tag, other bytes than the registry says are refused', async () => {
    const { digest, mediaType } = image.manifest.descriptor;
    fake.current.registry.misbehaviours.push((_, response) => {
      response.writeHead(200, { 'content-type': mediaType, 'docker-content-digest': digest });
      response.end(fakeImage().manifest.bytes);
      return true;
    });
    await expect(fake.current.store.readManifest('v1')).rejects.toMatchObject({
      code: 'INPUT_DIGEST_MISMATCH',
    });
  });

  test('a stored digest that differs from ours is refused', async () => {
    fake.current.registry.misbehaviours.push(({ method, headers }, response) => {
      if (method !== 'PUT' || headers.authorization === undefined) return false;
      response.writeHead(201, { 'docker-content-digest': sha256(Buffer.from('other')) }).end();
      return true;
    });
    await expect(fake.current.store.writeManifest(image.manifest, 'v1')).rejects.toMatchObject({
      code: 'INPUT_DIGEST_MISMATCH',
    });
  });

  test('a huge one is refused before it is in memory', async () => {
    let sent: Flood | undefined;
    fake.current.registry.misbehaviours.push(({ headers }, response) => {
      if (headers.authorization === undefined) return false;
      response.writeHead(200, { 'content-type': image.manifest.descriptor.mediaType });
      sent = flood(response, 64 * MAX_MANIFEST_BYTES);
      return true;
    });
    await expect(fake.current.store.readManifest()).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    expect(sent?.sentBytes).toBeLessThan(64 * MAX_MANIFEST_BYTES);
  });

  test('an unhelpful media type is read from the document, schema 1 is refused', async () => {
    fake.current.registry.manifests.set(`${NAME}@v1`, {
      mediaType: 'text/plain; charset=utf-8',
      bytes: image.manifest.bytes,
    });
    expect((await fake.current.store.readManifest()).descriptor).toEqual(image.manifest.descriptor);
    fake.current.registry.manifests.set(`${NAME}@v1`, {
      mediaType: 'application/json',
      bytes: Buffer.from('{"schemaVersion":1,"fsLayers":[]}'),
    });
    await expect(fake.current.store.readManifest()).rejects.toMatchObject({ code: 'INPUT_UNSUPPORTED' });
    fake.current.registry.manifests.set(`${NAME}@v1`, {
      mediaType: 'text/html',
      bytes: Buffer.from('<html>'),
    });
    await expect(fake.current.store.readManifest()).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
  });
});

describe('error answers', () => {
  test('a long body is cut, terminal escapes do not get through', async () => {
    const message = `\u001b[31mred\u0007 ${'x'.repeat(100_000)}`;
    fake.current.registry.misbehaviours.push((_, response) => {
      sendError(response, 418, 'TEAPOT', message);
      return true;
    });
    const long: unknown = await fake.current.store.readManifest().catch((error: unknown) => error);
    expect(long).toMatchObject({
      code: 'NET_REGISTRY',
      // What was cut off cannot be read any more.
      message: expect.not.stringContaining('TEAPOT') as string,
    });
    fake.current.registry.misbehaviours.unshift((_, response) => {
      sendError(response, 418, 'TEAPOT', '\u001b[31mred\r\nline\u202e');
      return true;
    });
    await expect(fake.current.store.readManifest()).rejects.toMatchObject({
      message: expect.stringMatching(/TEAPOT: [\x20-\x7e]*\(HTTP 418\)$/) as string,
    });
  });

  test('a registry without TLS where TLS is asked for says how to go on', async () => {
    const { registry, timing } = fake.current;
    const strict = openRegistry(parseReference(`${registry.host}/a/b`), { allowHttp: false, timing });
    await expect(strict.readManifest()).rejects.toMatchObject({
      code: 'NET_TLS',
      hint: expect.stringContaining('HTTP') as string,
    });
    expect(timing.sleptMs).toEqual([]);
  });

  test('an unreachable registry is named', async () => {
    await fake.current.registry.stop();
    await expect(fake.current.store.readManifest()).rejects.toMatchObject({
      code: 'NET_UNREACHABLE',
      message: expect.stringContaining(fake.current.registry.host) as string,
    });
    expect(fake.current.timing.sleptMs).toHaveLength(MAX_REGISTRY_ATTEMPTS - 1);
  });
});
