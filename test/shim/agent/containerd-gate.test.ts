import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { digestOf } from '#src/oci/digest.ts';
import { ContainerGuard } from '../../../shim/agent/container-guard.ts';
import { ContainerdGate } from '../../../shim/agent/containerd-gate.ts';
import { ImageGuard } from '../../../shim/agent/image-guard.ts';
import { ExtractionLedger } from '../../../shim/agent/extraction-ledger.ts';
import { LayerIndex } from '../../../shim/agent/layer-index.ts';
import { LeaseKeeper } from '../../../shim/agent/lease-keeper.ts';
import { nodePlatform } from '../../../shim/agent/node-platform.ts';
import { FakeContentStore } from '../../fakes/content-store.ts';
import {
  type EncryptedImage,
  type EncryptedLayer,
  encryptedImage,
  encryptedImageStatement,
  imageManifest,
  layerIdentity,
  storeEncryptedImage,
} from '../../fakes/encrypted-image.ts';
import { LEASE_DURATION_MS, LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { manualClock } from '../../fakes/manual-clock.ts';
import { randomImage, randomLayer, statementOf } from '../../fakes/release-statement.ts';
import { fakeLayer, gateRecord } from '../../fakes/scripted-gate.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const [a, b, c] = ['a', 'b', 'c'].map(gateRecord) as [
  ReturnType<typeof gateRecord>,
  ReturnType<typeof gateRecord>,
  ReturnType<typeof gateRecord>,
];

let store: FakeContentStore;
let issuer: LeaseIssuer;
let gate: ContainerdGate;
/** Image keys that the key server refuses. */
let refused: string[];

beforeEach(async () => {
  store = await FakeContentStore.start(join(directory(), 'containerd.sock'));
  issuer = new LeaseIssuer(manualClock());
  refused = [];
  const authority = issuer.authority();
  const leases = new LeaseKeeper(issuer.clock, { onEnded: () => undefined });
  leases.setAuthority({
    ...authority,
    keyServer: {
      ...authority.keyServer,
      acquireLease: (request) =>
        refused.includes(request.imageKeyId)
          ? Promise.reject(new LatchkeyError('DENIED_IMAGE_UNKNOWN', `no ${request.imageKeyId}`))
          : authority.keyServer.acquireLease(request),
    },
  });
  const index = new LayerIndex(store.connection);
  for (const { imageDigest, imageKeyId, blob } of [a, b, c]) {
    const image = randomImage('amd64', imageKeyId);
    const layers = [{ ...randomLayer(imageKeyId), ...blob }];
    issuer.statements.set(
      imageDigest,
      statementOf([{ ...image, manifest: imageDigest, layers }], { imageKeyId }),
    );
  }
  const guard = new ImageGuard(leases, index, nodePlatform('x64'));
  const noContainers = {
    containersOn: () => Promise.resolve([]),
    manifestsOf: () => Promise.resolve(undefined),
    imagesOn: () => Promise.resolve([]),
    volumesOn: () => Promise.resolve([]),
    image: () => Promise.resolve(undefined),
  };
  gate = new ContainerdGate({
    containerd: store.connection,
    index,
    guard,
    containers: new ContainerGuard(noContainers, guard, nodePlatform('x64')),
    ledger: new ExtractionLedger(),
    capacitySetting: 'plaintext_capacity',
    onRefusedLate: () => undefined,
    onExtraction: () => undefined,
    onRestored: () => undefined,
    onKeepBlobFailed: () => undefined,
  });
});
afterEach(() => store.close());

describe('the gate', () => {
  test('needs a lease for every group', async () => {
    await gate.authorize([[a], [b]]);
    expect(issuer.acquired).toBe(2);
    refused = ['key of c'];
    await expect(gate.authorize([[a], [c]])).rejects.toMatchObject({ message: 'no key of c' });
  });

  test('needs one lease of a group, and asks no more when one of it is allowed already', async () => {
    refused = ['key of a'];
    await gate.authorize([[a, b]]);
    expect(issuer.acquired).toBe(1);
    await gate.authorize([[b], [a, b], [b, c]]);
    expect(issuer.acquired).toBe(1);
  });

  test('says of a group without a lease what its first image was told', async () => {
    refused = ['key of a', 'key of b'];
    await expect(gate.authorize([[b, a]])).rejects.toMatchObject({
      code: 'DENIED_IMAGE_UNKNOWN',
      message: 'no key of b',
      contact: 'license@acme.example',
    });
  });

  test('opens a layer of before with the key of another image that holds it, when its own is refused', async () => {
    const images = [1, 2].map((number) => {
      const image = encryptedImage([randomBytes(50)], { imageKeyId: `key of ${number}` });
      issuer.statements.set(image.manifestDigest, encryptedImageStatement(image));
      return image;
    });
    const [first, second] = images as [EncryptedImage, EncryptedImage];
    // The same blob, wrapped under another image key.
    const { mediaType, digest, ciphertext } = first.layers[0]!;
    const [{ annotations }] = second.layers as [EncryptedLayer];
    const manifestBytes = imageManifest(first.configBytes, [
      { mediaType, digest, size: ciphertext.length, annotations },
    ]);
    const rewrapped: EncryptedImage = {
      ...{ imageKeyId: second.imageKeyId, imageKey: second.imageKey, configBytes: first.configBytes },
      ...{ manifestBytes, manifestDigest: digestOf(manifestBytes), layers: first.layers },
    };
    issuer.statements.set(rewrapped.manifestDigest, encryptedImageStatement(rewrapped));
    for (const image of [first, rewrapped]) storeEncryptedImage(store, 'default', image);
    const record = layerIdentity(first, 'default', 0).encryptedIn[0]!;
    expect(await gate.authorizeLayers([record])).toEqual([record]);
    refused = ['key of 1'];
    issuer.clock.advance(LEASE_DURATION_MS);
    const [allowed] = await gate.authorizeLayers([record]);
    expect(allowed).toMatchObject({ imageDigest: rewrapped.manifestDigest, blob: { digest } });
    await expect(gate.authorize([[record]])).rejects.toMatchObject({ message: 'no key of 1' });
    refused = ['key of 1', 'key of 2'];
    issuer.clock.advance(LEASE_DURATION_MS);
    await expect(gate.authorizeLayers([record])).rejects.toMatchObject({ message: 'no key of 1' });
  });

  test('has nothing to decide for plain images', async () => {
    await gate.authorize([]);
    expect(issuer.acquired).toBe(0);
  });

  test('does not unpack what containerd no longer has', async () => {
    const { layer } = fakeLayer('app', 'encrypted').identity;
    await expect(gate.apply(layer, [])).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
      hint: 'pull the image again',
    });
  });
});
