import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import type { HeldLease } from '../../../shim/agent/held-lease.ts';
import { SweepGrantor } from '../../../shim/agent/sweep-grant.ts';
import type { SnapshotGateRecord } from '../../../shim/snapshotter/snapshot.ts';
import { encryptedImage, layerIdentity } from '../../fakes/encrypted-image.ts';

const image = encryptedImage([randomBytes(100)]);
const [record] = layerIdentity(image, 'k8s.io').encryptedIn;
const other = { ...record!, imageDigest: image.layers[0]!.digest };

/** A guard that knows a lease for the images of these records only. */
function grantor(
  records: readonly SnapshotGateRecord[],
  allowed: readonly SnapshotGateRecord[],
): { grantor: SweepGrantor; asked: SnapshotGateRecord[] } {
  const asked: SnapshotGateRecord[] = [];
  const index = { recordsByHead: () => Promise.resolve([...records]) };
  const guard = {
    isCleared: (candidate: SnapshotGateRecord) => allowed.includes(candidate),
    require: (candidate: SnapshotGateRecord) => {
      asked.push(candidate);
      if (!allowed.includes(candidate)) {
        return Promise.reject(new LatchkeyError('DENIED_IMAGE_UNKNOWN', 'no such image'));
      }
      return Promise.resolve({ imageKey: image.imageKey } as HeldLease);
    },
  };
  return { grantor: new SweepGrantor(index, guard), asked };
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'granted',
    (error: unknown) => (error as LatchkeyError).code,
  );
}

describe('a layer key on stock overlayfs', () => {
  test('is given under a lease of an image that has the layer', async () => {
    const { grantor: grants } = grantor([record!], [record!]);
    const grant = await grants.grant(image.layers[0]!.ciphertext, undefined);
    expect(grant.layerDigest).toBe(image.layers[0]!.digest);
    expect(grant.key.symmetricKey.length).toBe(32);
  });

  test('comes from the image that has a lease, before a forged one is asked about', async () => {
    const { grantor: grants, asked } = grantor([other, record!], [record!]);
    await grants.grant(image.layers[0]!.ciphertext, undefined);
    expect(asked).toEqual([record]);
  });

  test('is refused without a lease, in the words of the refusal', async () => {
    const { grantor: grants } = grantor([record!], []);
    expect(await codeOf(grants.grant(image.layers[0]!.ciphertext, undefined))).toBe('DENIED_IMAGE_UNKNOWN');
  });

  test('is refused for a layer that no image on the node has a key to', async () => {
    const { grantor: grants } = grantor([], []);
    expect(await codeOf(grants.grant(randomBytes(100), undefined))).toBe('KEY_NOT_FOUND');
  });
});
