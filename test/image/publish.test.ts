import { type KeyObject, generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { STAGED_PUSH_AGE_MS } from '#src/base/limits.ts';
import { openEnvelope } from '#src/crypto/envelope.ts';
import { platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { inspectImage } from '#src/image/inspect.ts';
import { planEncryption } from '#src/image/plan.ts';
import { type PublishOptions, publishImage } from '#src/image/publish.ts';
import type { ImageKeyRegistrar, ImageKeyRegistration } from '#src/image/registrar.ts';
import { signStatement } from '#src/image/statement.ts';
import { readAttachedStatements } from '#src/image/statement-referrer.ts';
import { verifyImage } from '#src/image/verify.ts';
import { unwrapLayerKey } from '#src/keywrap/annotations.ts';
import { createJweWrapper } from '#src/keywrap/jwe.ts';
import { createLatchkeyUnwrapper } from '#src/keywrap/latchkey.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { openLayout } from '#src/store/layout.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { alteredStore } from '../fakes/altered-store.ts';
import { signingKeyPair } from '../fakes/release-statement.ts';
import { realLayer, storeRealImage } from './real-image.ts';

const importKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const serverKeys = signingKeyPair();
const vendorKeys = signingKeyPair('ec');

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
    register: async (registration) => {
      seen.push(registration);
      return Buffer.from(
        signStatement(Buffer.from(registration.statement), serverKeys.privateKey),
      ).toString();
    },
  };
}

/** A registry that goes down after some writes. */
function failingStore(store: BlobStore, writesBeforeFailure: number): BlobStore {
  let left = writesBeforeFailure;
  return alteredStore(store, {
    writeBlob: async (...args) => {
      if (left === 0) throw new LatchkeyError('NET_UNREACHABLE', 'the registry is down');
      left -= 1;
      await store.writeBlob(...args);
    },
  });
}

async function publish(
  destination: BlobStore,
  registrar?: ImageKeyRegistrar,
  more: Partial<PublishOptions> = {},
) {
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
    ...more,
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
      registration!.sealedImageKey!,
      importKey.privateKey,
      'latchkey-image-key-import',
      registration!.imageKeyId,
    );
    const graph = await readImageGraph(destination, 'v2');
    const [plain, encrypted] = platformImages(graph)[0]!.manifest.layers;
    expect(plain?.mediaType).toBe(MEDIA_TYPE.ociLayerGzip);
    const unwrapper = createLatchkeyUnwrapper(registration!.imageKeyId, imageKey);
    expect(await unwrapLayerKey(encrypted?.annotations, [unwrapper])).not.toBeNull();
    const shown = (await inspectImage(graph)).platforms[0]!;
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
    expect(shown.visible.env).toEqual(['GREETING=visible']);
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

  test('is gone on with also after weeks, when others would be cleared away', async () => {
    const destination = createMemoryStore();
    const failing = {
      ...recordingRegistrar(),
      register: async () => {
        throw new LatchkeyError('NET_UNREACHABLE', 'the key server does not answer');
      },
    };
    await expect(publish(destination, failing)).rejects.toMatchObject({ code: 'NET_UNREACHABLE' });
    const pushes = join(directory, 'cache', 'push');
    const long = new Date(Date.now() - 10 * STAGED_PUSH_AGE_MS);
    for (const name of await readdir(pushes)) await utimes(join(pushes, name), long, long);
    expect((await publish(destination, recordingRegistrar())).isResumed).toBe(true);
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

describe('the statement of a release', () => {
  const verify = async (store: BlobStore, keys: { publicKey: KeyObject }) =>
    verifyImage(await readImageGraph(store, 'v2'), { publicKeys: [keys.publicKey], readsBlobs: true });

  test.each(['a layout', 'a registry'])('goes with the image to %s, signed by both', async (where) => {
    const destination = where === 'a layout' ? openLayout(join(directory, 'out')) : createMemoryStore();
    const registrar = recordingRegistrar();
    const result = await publish(destination, registrar, { statementKey: vendorKeys.privateKey });
    for (const keys of [serverKeys, vendorKeys]) {
      const verified = await verify(destination, keys);
      expect(verified.statement).toMatchObject({
        productCode: 'acme',
        organizationId: 'org-1',
        imageKeyId: result.imageKeyId,
        sourceDigest: (await source.readManifest('v1')).descriptor.digest,
        root: { digest: result.root },
        manifests: [result.root],
      });
      expect(verified).toMatchObject({ isWholeRelease: true, blobCount: 2 });
      expect(verified.images[0]?.layers.map(({ isEncrypted }) => isEncrypted)).toEqual([false, true]);
      expect(verified.images[0]?.layers[1]?.imageKeyIds).toEqual([result.imageKeyId]);
    }
    await expect(verify(destination, signingKeyPair())).rejects.toMatchObject({
      code: 'CRYPTO_AUTHENTICATION_FAILED',
    });
    // The default image of the destination is still the image.
    expect((await destination.readManifest()).descriptor.digest).toBe(result.root);
  });

  test('that could not be attached loses nothing, and the same command again repairs it', async () => {
    const registry = createMemoryStore();
    const registrar = recordingRegistrar();
    let isRefusing = true;
    const destination = alteredStore(registry, {
      writeManifest: async (manifest, ...args) => {
        if (isRefusing && Buffer.from(manifest.bytes).includes('"subject"')) {
          throw new LatchkeyError('NET_REGISTRY', 'artifacts are not allowed here');
        }
        await registry.writeManifest(manifest, ...args);
      },
    });
    await expect(publish(destination, registrar)).rejects.toMatchObject({
      code: 'NET_REGISTRY',
      message: expect.stringMatching(/pushed .* artifacts are not allowed here/) as string,
      hint: expect.stringMatching(/same command again/) as string,
    });
    const pushed = (await registry.readManifest('v2')).descriptor.digest;
    await expect(verify(registry, serverKeys)).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });

    isRefusing = false;
    const result = await publish(destination, registrar);
    expect(result).toMatchObject({ isResumed: true, root: pushed });
    expect(registrar.seen[1]).toEqual(registrar.seen[0]);
    await verify(registry, serverKeys);
    expect(await staged()).toEqual([]);
  });

  test('of an image for recipients only is signed by the vendor, or there is none', async () => {
    const wrappers = [createJweWrapper([importKey.publicKey])];
    const [signed, unsigned] = [createMemoryStore('signed'), createMemoryStore('unsigned')];
    await publish(signed, undefined, { wrappers, statementKey: vendorKeys.privateKey });
    const { statement } = await verify(signed, vendorKeys);
    expect(statement.imageKeyId).toBe(undefined);
    const result = await publish(unsigned, undefined, { wrappers });
    expect(result.statement).toBe(undefined);
    expect(await readAttachedStatements(unsigned, result.root)).toEqual([]);
  });
});
