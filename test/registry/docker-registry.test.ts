// Our client against Debian's docker-registry, open and with passwords, and a second client that reads what we pushed.
import { createHash } from 'node:crypto';
import { readdir, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { RegistryClientV2, parseRepoAndRef } from 'oci-registry-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestFromHex } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { copyImage, type CopyEvent } from '#src/store/copy.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import {
  dockerRegistrySkipReason,
  startDockerRegistry,
  type DockerRegistry,
} from '../../lab/docker-registry.ts';
import { bytesOf, fakeImage, fakeIndex, storeImage } from '../fakes/image.ts';
import { recordedTiming } from '../fakes/retry-timing.ts';

const skipReason = dockerRegistrySkipReason();
const LOGIN = { user: 'release', password: 'correct:horse' };

describe.skipIf(skipReason !== undefined)(
  `docker-registry${skipReason === undefined ? '' : `: ${skipReason}`}`,
  () => {
    let open: DockerRegistry;
    let closed: DockerRegistry;

    beforeAll(async () => {
      open = await startDockerRegistry();
      closed = await startDockerRegistry({ htpasswd: LOGIN });
    });
    afterAll(async () => {
      await open.stop();
      await closed.stop();
    });

    test('an image with two platforms comes back as it was', async () => {
      const source = createMemoryStore();
      const amd64 = fakeImage([300_000, 5], 'amd64');
      const arm64 = fakeImage([70_000, 0], 'arm64');
      await storeImage(source, amd64, undefined, true);
      await storeImage(source, arm64, undefined, true);
      const index = fakeIndex([
        { ...amd64.manifest, architecture: 'amd64' },
        { ...arm64.manifest, architecture: 'arm64' },
      ]);
      await source.writeManifest(index);

      const store = openRegistry(parseReference(`${open.host}/a/b:v1`));
      let movedBytes = 0;
      const descriptor = await copyImage(source, store, {
        tag: 'v1',
        onBytes: (bytes) => (movedBytes += bytes),
      });
      expect(descriptor.digest).toBe(index.descriptor.digest);
      expect(movedBytes).toBe(
        [...amd64.blobs.values(), ...arm64.blobs.values()].reduce((sum, blob) => sum + blob.length, 0),
      );

      const back = createMemoryStore();
      await copyImage(store, back, {});
      expect(Buffer.from((await back.readManifest()).bytes)).toEqual(Buffer.from(index.bytes));
      for (const layer of [...amd64.layers, ...arm64.layers]) {
        const expected = amd64.blobs.get(layer.digest) ?? arm64.blobs.get(layer.digest);
        expect((await bytesOf(back.openBlob(layer))).equals(expected!)).toBe(true);
      }
    });

    test('records that a crash has left empty are written anew by the next push', async () => {
      const source = createMemoryStore();
      const image = fakeImage([10_000]);
      await storeImage(source, image);
      const store = openRegistry(parseReference(`${open.host}/team/broken:v1`), { timing: recordedTiming() });
      await copyImage(source, store, { tag: 'v1' });
      const records = join(open.directory, 'storage/docker/registry/v2/repositories/team/broken');
      const links = (await readdir(records, { recursive: true })).filter((path) => path.endsWith('/link'));
      for (const link of links) await truncate(join(records, link));
      await expect(store.readManifest('v1')).rejects.toMatchObject({ code: 'NET_REGISTRY' });

      await copyImage(source, store, { tag: 'v1' });
      expect((await store.readManifest('v1')).descriptor).toEqual(image.manifest.descriptor);
      await store.readManifest(image.manifest.descriptor.digest);
    });

    test('a second push skips what is there, another repository gets it mounted', async () => {
      const source = createMemoryStore();
      await storeImage(source, fakeImage([10_000]));
      const first = openRegistry(parseReference(`${open.host}/team/first:v1`));
      await copyImage(source, first, { tag: 'v1' });

      const again: CopyEvent['kind'][] = [];
      await copyImage(source, first, { tag: 'v2', onEvent: (event) => again.push(event.kind) });
      expect(again).toEqual(['skipped', 'skipped', 'manifest']);

      const mounted: CopyEvent['kind'][] = [];
      const second = openRegistry(parseReference(`${open.host}/team/second:v1`));
      await copyImage(first, second, { tag: 'v1', onEvent: (event) => mounted.push(event.kind) });
      expect(mounted).toEqual(['mounted', 'mounted', 'manifest']);
    });

    test('an independent client reads what we pushed', async () => {
      const source = createMemoryStore();
      const image = fakeImage([50_000]);
      await storeImage(source, image);
      await copyImage(source, openRegistry(parseReference(`${open.host}/team/peer:v1`)), { tag: 'v1' });

      const peer = new RegistryClientV2({
        repo: parseRepoAndRef(`${open.host}/team/peer:v1`),
        insecure: true,
        acceptOCIManifests: true,
      });
      const { manifest } = await peer.getManifest({ ref: 'v1' });
      expect(manifest).toEqual(JSON.parse(Buffer.from(image.manifest.bytes).toString()));
      const layer = image.layers[0]!;
      const { stream } = await peer.createBlobReadStream({ digest: layer.digest });
      expect(
        (await bytesOf(stream as AsyncIterable<Uint8Array>)).equals(image.blobs.get(layer.digest)!),
      ).toBe(true);
    });

    test('the right password pushes and pulls', async () => {
      const source = createMemoryStore();
      await storeImage(source, fakeImage());
      const store = openRegistry(parseReference(`${closed.host}/team/secret:v1`), {
        credentials: () =>
          Promise.resolve({ kind: 'password', username: LOGIN.user, password: LOGIN.password }),
      });
      await copyImage(source, store, { tag: 'v1' });
      await copyImage(store, createMemoryStore());
    });

    test('a wrong password and no password say what to do, without the password', async () => {
      const reference = parseReference(`${closed.host}/team/secret:v1`);
      const wrong = openRegistry(reference, {
        credentials: () => Promise.resolve({ kind: 'password', username: 'release', password: 'hunter2' }),
      });
      await expect(wrong.readManifest()).rejects.toMatchObject({
        code: 'NET_UNAUTHORIZED',
        message: expect.not.stringContaining('hunter2') as string,
        hint: expect.stringContaining(`docker login ${closed.host}`) as string,
      });
      await expect(openRegistry(reference).readManifest()).rejects.toMatchObject({
        code: 'NET_UNAUTHORIZED',
      });
    });

    test('a push survives a restart of the registry in its middle', async () => {
      const source = createMemoryStore();
      const image = fakeImage([20_000_000, 1000]);
      await storeImage(source, image);
      const store = openRegistry(parseReference(`${open.host}/team/restart:v1`));
      let restarting: Promise<void> | undefined;
      const onBytes = (): void => {
        restarting ??= open.restart();
      };
      await copyImage(source, store, { tag: 'v1', onBytes });
      await restarting;
      const back = createMemoryStore();
      await copyImage(store, back);
      expect((await back.readManifest()).descriptor).toEqual(image.manifest.descriptor);
    });

    test('a push to a registry that goes away fails, and a rerun pushes only what is missing', async () => {
      const source = createMemoryStore();
      const image = fakeImage([1000, 2000, 30_000_000]);
      await storeImage(source, image);
      const timing = recordedTiming();
      const store = openRegistry(parseReference(`${open.host}/team/rerun:v1`), { timing });
      const done: string[] = [];
      let killing: Promise<void> | undefined;
      const failing = copyImage(source, store, {
        tag: 'v1',
        onEvent: ({ kind }) => {
          done.push(kind);
          // Three of four blobs are there; the large one is under way.
          if (done.length === 3) killing = open.kill();
        },
      });
      await expect(failing).rejects.toMatchObject({ code: 'NET_UNREACHABLE' });
      await killing;
      await open.restart();
      const again: string[] = [];
      await copyImage(source, store, { tag: 'v1', onEvent: ({ kind }) => again.push(kind) });
      expect(again.filter((kind) => kind === 'skipped').length).toBeGreaterThanOrEqual(done.length);
      expect(again.at(-1)).toBe('manifest');
    });

    test('a large blob is pushed in constant memory', async () => {
      const piece = Buffer.alloc(1024 * 1024, 'latchkey');
      const pieces = 200;
      const hash = createHash('sha256');
      for (let count = 0; count < pieces; count += 1) hash.update(piece);
      const blob = {
        mediaType: MEDIA_TYPE.ociLayer,
        digest: digestFromHex(hash.digest('hex')),
        size: pieces * piece.length,
      };
      let peakBytes = 0;
      const onBytes = (): void => {
        peakBytes = Math.max(peakBytes, process.memoryUsage().arrayBuffers);
      };
      const startBytes = process.memoryUsage().arrayBuffers;
      const store = openRegistry(parseReference(`${open.host}/team/large:v1`));
      const content = async function* (): AsyncGenerator<Uint8Array> {
        for (let count = 0; count < pieces; count += 1) yield piece;
      };
      await store.writeBlob(blob, content, { onBytes });
      expect(await store.hasBlob(blob)).toBe(true);
      expect(peakBytes - startBytes).toBeLessThan(blob.size / 4);
    });

    test('an unknown name and an unknown tag are not found', async () => {
      await expect(openRegistry(parseReference(`${open.host}/no/such`)).readManifest()).rejects.toMatchObject(
        {
          code: 'STATE_NOT_FOUND',
        },
      );
    });
  },
);
