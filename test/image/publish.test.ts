import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { openEnvelope } from '#src/crypto/envelope.ts';
import { platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { inspectImage } from '#src/image/inspect.ts';
import { planEncryption } from '#src/image/plan.ts';
import { publishImage } from '#src/image/publish.ts';
import type { ImageKeyRegistrar, ImageKeyRegistration } from '#src/image/registrar.ts';
import { unwrapLayerKey } from '#src/keywrap/annotations.ts';
import { createLatchkeyUnwrapper } from '#src/keywrap/latchkey.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { openLayout } from '#src/store/layout.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { realLayer, storeRealImage } from './real-image.ts';

const importKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });

let directory: string;
let source: BlobStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-publish-'));
  source = openLayout(join(directory, 'source'));
  const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip), await realLayer(MEDIA_TYPE.ociLayerGzip)];
  await storeRealImage(source, layers, { tag: 'v1' });
});

afterEach(() => rm(directory, { recursive: true, force: true }));

function recordingRegistrar(): ImageKeyRegistrar & { readonly seen: ImageKeyRegistration[] } {
  const seen: ImageKeyRegistration[] = [];
  return {
    seen,
    productCode: 'acme',
    prepare: async () => ({
      organizationId: 'org-1',
      contact: 'help@acme.example',
      importPublicKeyJwk: importKey.publicKey.export({ format: 'jwk' }),
    }),
    register: async (registration) => void seen.push(registration),
  };
}

/** A registry that goes down after some writes. */
function failingStore(store: BlobStore, writesBeforeFailure: number): BlobStore {
  let left = writesBeforeFailure;
  return {
    location: store.location,
    readManifest: (...args) => store.readManifest(...args),
    openBlob: (...args) => store.openBlob(...args),
    hasBlob: (...args) => store.hasBlob(...args),
    writeManifest: (...args) => store.writeManifest(...args),
    writeBlob: async (...args) => {
      if (left === 0) throw new LatchkeyError('NET_UNREACHABLE', 'the registry is down');
      left -= 1;
      await store.writeBlob(...args);
    },
  };
}

async function publish(destination: BlobStore, registrar?: ImageKeyRegistrar) {
  const graph = await readImageGraph(source, 'v1');
  return publishImage({
    graph,
    plan: planEncryption(graph, { kind: 'layers', positions: [1] }),
    destination,
    tag: 'v2',
    wrappers: [],
    recipientIds: [],
    registrar,
    repository: 'registry.example/acme',
    isSalted: true,
    cacheDirectory: join(directory, 'cache'),
    clock: systemClock,
  });
}

const staged = () => readdir(join(directory, 'cache', 'push')).catch(() => []);

describe('publishing', () => {
  test.each(['a layout', 'a registry'])('to %s registers the key that opens the layers', async (where) => {
    const destination = where === 'a layout' ? openLayout(join(directory, 'out')) : createMemoryStore();
    const registrar = recordingRegistrar();
    const result = await publish(destination, registrar);
    const [registration] = registrar.seen;
    expect(registration).toMatchObject({
      productCode: 'acme',
      version: 'v2',
      repository: 'registry.example/acme',
    });
    expect(registration?.imageDigests).toEqual([result.root]);

    const imageKey = await openEnvelope(
      registration!.sealedImageKey,
      importKey.privateKey,
      'latchkey-image-key-import',
    );
    const graph = await readImageGraph(destination, 'v2');
    const [plain, encrypted] = platformImages(graph)[0]!.manifest.layers;
    expect(plain?.mediaType).toBe(MEDIA_TYPE.ociLayerGzip);
    const unwrapper = createLatchkeyUnwrapper(registration!.imageKeyId, imageKey);
    expect(await unwrapLayerKey(encrypted?.annotations, [unwrapper])).not.toBeNull();
    const shown = inspectImage(graph).platforms[0]!;
    expect(shown.layers.map((layer) => layer.recipients)).toEqual([
      [],
      [
        {
          scheme: 'provider.latchkey',
          imageKeyId: registration!.imageKeyId,
          organizationId: 'org-1',
          contact: 'help@acme.example',
        },
      ],
    ]);
    expect(shown.visible.env).toEqual(['TOKEN=visible']);
    expect(await staged()).toEqual([]);
  });

  test.each([0, 1, 2])('goes on after a failure at write %i with the same ciphertext', async (writes) => {
    const registry = createMemoryStore();
    const registrar = recordingRegistrar();
    await expect(publish(failingStore(registry, writes), registrar)).rejects.toThrow('the registry is down');
    await expect(registry.readManifest('v2')).rejects.toThrow();
    expect(await staged()).toHaveLength(1);
    const result = await publish(registry, registrar);
    expect(result.isResumed).toBe(true);
    expect(registrar.seen[1]).toEqual(registrar.seen[0]);
    expect((await registry.readManifest('v2')).descriptor.digest).toBe(result.root);
    expect(await staged()).toEqual([]);
  });

  test('publishes nothing when the key cannot be registered', async () => {
    const registry = createMemoryStore();
    const refusing = {
      ...recordingRegistrar(),
      register: () => Promise.reject(new LatchkeyError('NET_UNREACHABLE', 'the key server is down')),
    };
    await expect(publish(registry, refusing)).rejects.toThrow('the key server is down');
    await expect(registry.readManifest('v2')).rejects.toThrow();
    expect((await publish(registry, recordingRegistrar())).isResumed).toBe(true);
  });

  test('does not use ciphertext made for another key server', async () => {
    const registry = createMemoryStore();
    await expect(publish(failingStore(registry, 0), recordingRegistrar())).rejects.toThrow();
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });
    const elsewhere = {
      ...recordingRegistrar(),
      prepare: async () => ({ organizationId: 'org-2', contact: '', importPublicKeyJwk: other }),
    };
    expect((await publish(registry, elsewhere)).isResumed).toBe(false);
  });

  test('does the work again when what was staged is damaged', async () => {
    const registry = createMemoryStore();
    await expect(publish(failingStore(registry, 0), recordingRegistrar())).rejects.toThrow();
    const [name] = await staged();
    const { writeFile } = await import('node:fs/promises');
    await writeFile(join(directory, 'cache', 'push', name!, 'push.json'), randomBytes(20));
    expect((await publish(registry, recordingRegistrar())).isResumed).toBe(false);
  });
});
