import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import type { StatementLayer } from '#src/image/statement.ts';
import { digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { ImageGuard } from '../../../shim/agent/image-guard.ts';
import { LayerIndex } from '../../../shim/agent/layer-index.ts';
import { LeaseKeeper } from '../../../shim/agent/lease-keeper.ts';
import { nodePlatform } from '../../../shim/agent/node-platform.ts';
import type { SnapshotGateRecord } from '../../../shim/snapshotter/snapshot.ts';
import { FakeContentStore } from '../../fakes/content-store.ts';
import {
  type EncryptedImage,
  type EncryptedLayer,
  encryptedImage,
  encryptedImageStatement,
  imageConfig,
  imageManifest,
  layerIdentity,
  storeEncryptedImage,
} from '../../fakes/encrypted-image.ts';
import { LEASE_DURATION_MS, LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { manualClock } from '../../fakes/manual-clock.ts';
import { signedEnvelope, signingKeyPair, statementOf } from '../../fakes/release-statement.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const NAMESPACE = 'k8s.io';
const directory = temporaryDirectory();

let store: FakeContentStore;
let issuer: LeaseIssuer;
let leases: LeaseKeeper;
let guard: ImageGuard;
let released: EncryptedImage;

beforeEach(async () => {
  store = await FakeContentStore.start(join(directory(), 'containerd.sock'));
  issuer = new LeaseIssuer(manualClock());
  leases = new LeaseKeeper(issuer.clock, { onEnded: () => undefined });
  leases.setAuthority(issuer.authority());
  guard = new ImageGuard(leases, new LayerIndex(store.connection), nodePlatform('x64'));
  released = encryptedImage([randomBytes(50), randomBytes(60), randomBytes(70)]);
  issuer.statements.set(released.manifestDigest, encryptedImageStatement(released));
});
afterEach(() => store.close());

function recordOf(image: EncryptedImage, index = 0): SnapshotGateRecord {
  return layerIdentity(image, NAMESPACE, index).encryptedIn[0]!;
}

interface Forgery {
  readonly layers?: readonly EncryptedLayer[];
  readonly plainLayer?: boolean;
  readonly config?: Buffer;
}

/** The released image with something done to it, in containerd; the key server gives leases for it all the same. */
function forge({ layers = released.layers, plainLayer = false, config }: Forgery): EncryptedImage {
  const configBytes = config ?? imageConfig(layers.map(({ diffId }) => diffId));
  const descriptors = layers.map(({ mediaType, digest, ciphertext, annotations }) => ({
    mediaType,
    digest,
    size: ciphertext.length,
    annotations,
  }));
  const last = layers.at(-1)!;
  const plain = { mediaType: MEDIA_TYPE.ociLayer, digest: last.diffId, size: last.plaintext.length };
  const manifestBytes = imageManifest(
    configBytes,
    plainLayer ? [...descriptors.slice(0, -1), plain] : descriptors,
  );
  const forged = { ...released, layers, configBytes, manifestBytes, manifestDigest: digestOf(manifestBytes) };
  storeEncryptedImage(store, NAMESPACE, forged);
  issuer.statements.set(forged.manifestDigest, encryptedImageStatement(released));
  return forged;
}

describe('an image that is as it was released', () => {
  test('passes, and is compared once for each lease', async () => {
    storeEncryptedImage(store, NAMESPACE, released);
    for (let start = 0; start < 10; start += 1) await guard.require(recordOf(released, start % 3));
    expect(guard.isCleared(recordOf(released))).toBe(true);
    expect(store.reads.filter((digest) => digest === released.manifestDigest)).toHaveLength(1);
    expect(issuer.acquired).toBe(1);
  });

  test('is compared again with the statement of the next lease', async () => {
    storeEncryptedImage(store, NAMESPACE, released);
    await guard.require(recordOf(released));
    issuer.clock.advance(LEASE_DURATION_MS + 1);
    expect(guard.isCleared(recordOf(released))).toBe(false);
    const other = encryptedImage([randomBytes(50)]);
    issuer.statements.set(released.manifestDigest, encryptedImageStatement(other));
    await expect(guard.require(recordOf(released))).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
  });

  test('goes on when containerd has collected its documents', async () => {
    await expect(guard.require(recordOf(released))).resolves.toBeDefined();
    const foreign = {
      ...recordOf(released),
      blob: { ...recordOf(released).blob, digest: digestOf('other') },
    };
    await expect(guard.require(foreign)).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
  });

  test.each<[string, Partial<StatementLayer>]>([
    ['encrypted under another image key', { imageKeyIds: ['key-2'] }],
    ['plain', { isEncrypted: false }],
  ])('gives no key for a layer that its statement has %s', async (_how, changed) => {
    const statement = encryptedImageStatement(released);
    const [image] = statement.images;
    const [first, ...others] = image!.layers;
    const images = [{ ...image!, layers: [{ ...first!, ...changed }, ...others] }];
    issuer.statements.set(released.manifestDigest, { ...statement, images });
    // Without the documents there is nothing to compare but the record.
    await expect(guard.require(recordOf(released))).rejects.toMatchObject({
      code: 'DENIED_IMAGE_ALTERED',
      message: expect.stringMatching(/is not of this release/) as string,
    });
    expect(guard.isCleared(recordOf(released))).toBe(false);
    await expect(guard.require(recordOf(released, 1))).resolves.toBeDefined();
  });

  test('is not judged while containerd does not answer', async () => {
    storeEncryptedImage(store, NAMESPACE, released);
    const away = () => Promise.reject(new LatchkeyError('NET_UNREACHABLE', 'away'));
    const images = { image: away, recordsOf: away };
    const blind = new ImageGuard(leases, images, nodePlatform('x64'));
    await expect(blind.require(recordOf(released))).rejects.toMatchObject({ code: 'NET_UNREACHABLE' });
    expect(blind.isCleared(recordOf(released))).toBe(false);
  });
});

describe('an altered image gets no key although it has a lease', () => {
  const [zero, one, two] = [0, 1, 2] as const;
  test.each<[string, () => Forgery, RegExp]>([
    ['a dropped layer', () => ({ layers: released.layers.slice(0, 2) }), /layer 2 .* was dropped/],
    [
      'another order',
      () => ({ layers: [released.layers[zero]!, released.layers[two]!, released.layers[one]!] }),
      /in another order/,
    ],
    [
      'a foreign layer',
      () => ({ layers: [...released.layers.slice(0, 2), encryptedImage([randomBytes(9)]).layers[0]!] }),
      /layer 2 was replaced by sha256:/,
    ],
    ['a plain layer', () => ({ plainLayer: true }), /layer 2 was replaced by one that is not encrypted/],
    [
      'a foreign config',
      () => ({
        config: Buffer.from(
          released.configBytes.toString().replace('{', '{"config":{"Cmd":["/bin/cat","/secret"]},'),
        ),
      }),
      /the config sha256:\w+ is not the released one/,
    ],
  ])('%s', async (_name, how, message) => {
    const forged = forge(how());
    await expect(guard.require(recordOf(forged))).rejects.toMatchObject({
      code: 'DENIED_IMAGE_ALTERED',
      message: expect.stringMatching(message) as string,
      licenseId: 'lic-1',
      contact: 'license@acme.example',
    });
    expect(guard.isCleared(recordOf(forged))).toBe(false);
  });

  test('another platform standing in for this one', async () => {
    storeEncryptedImage(store, NAMESPACE, released);
    const forArm = encryptedImageStatement(released).images[0]!;
    const own = { ...forArm, manifest: digestOf('the amd64 image') };
    const statement = statementOf([own, { ...forArm, platform: { os: 'linux', architecture: 'arm64' } }], {
      imageKeyId: released.imageKeyId,
    });
    issuer.statements.set(released.manifestDigest, statement);
    await expect(guard.require(recordOf(released))).rejects.toThrow(
      'the image for linux/arm64 stands in for the one for linux/amd64',
    );
    const onArm = new ImageGuard(leases, new LayerIndex(store.connection), nodePlatform('arm64'));
    await expect(onArm.require(recordOf(released))).resolves.toBeDefined();
  });
});

describe('a chain that a container is to stand on', () => {
  const start = (image: EncryptedImage, layers = image.layers.length) =>
    guard.requireReleasedChain(NAMESPACE, image.layers[layers - 1]!.chainId, [recordOf(released)]);

  beforeEach(async () => {
    storeEncryptedImage(store, NAMESPACE, released);
    await guard.require(recordOf(released));
  });

  test('is all of the released image', async () => {
    await start(released);
    expect(issuer.acquired).toBe(1);
  });

  test('is not a part of it, nor one with something else on top', async () => {
    for (const layers of [1, 2]) {
      await expect(start(released, layers)).rejects.toMatchObject({
        code: 'DENIED_IMAGE_ALTERED',
        licenseId: 'lic-1',
      });
    }
    const more = encryptedImage([...released.layers.map(({ plaintext }) => plaintext), randomBytes(9)]);
    await expect(start(more)).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
  });

  test('may be of another release that shares gated layers with this one', async () => {
    const plaintexts = [...released.layers.map(({ plaintext }) => plaintext), randomBytes(9)];
    const next = encryptedImage(plaintexts, { imageKeyId: 'key-2' });
    storeEncryptedImage(store, NAMESPACE, next);
    await expect(start(next)).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
    issuer.statements.set(next.manifestDigest, encryptedImageStatement(next));
    await start(next);
  });
});

describe('a statement', () => {
  test.each<[string, () => Buffer, RegExp]>([
    ['that is missing', () => Buffer.alloc(0), /has no signed statement/],
    ['that is garbage', () => Buffer.from('{'), /has no valid statement/],
    [
      'of another signer',
      () => Buffer.from(signedEnvelope(encryptedImageStatement(released), signingKeyPair())),
      /not signed by this key/,
    ],
    [
      'of another release',
      () => {
        const other = encryptedImage([randomBytes(5)], { imageKeyId: 'key-2' });
        return Buffer.from(signedEnvelope(encryptedImageStatement(other), issuer.releaseKeys));
      },
      /the statement of another one/,
    ],
  ])('%s refuses the lease', async (_name, envelope, message) => {
    issuer.envelope = envelope();
    await expect(guard.require(recordOf(released))).rejects.toMatchObject({
      code: 'DENIED_STATEMENT_INVALID',
      message: expect.stringMatching(message) as string,
      licenseId: 'lic-1',
      contact: 'license@acme.example',
    });
    expect(leases.all()).toEqual([]);
  });
});
