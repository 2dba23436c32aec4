/** A blob that was damaged on this node, removed and pulled again is opened, whatever was known of it before. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ExtractionLedger } from '../../../shim/agent/extraction-ledger.ts';
import type { KeyGrantor } from '../../../shim/agent/key-grant.ts';
import { LayerIndex } from '../../../shim/agent/layer-index.ts';
import { FakeContentStore } from '../../fakes/content-store.ts';
import {
  type EncryptedImage,
  encryptedImage,
  encryptedImageStatement,
  layerIdentity,
  storeEncryptedImage,
} from '../../fakes/encrypted-image.ts';
import { keyGrantor } from '../../fakes/key-grantor.ts';
import { LeaseIssuer } from '../../fakes/lease-issuer.ts';
import { manualClock } from '../../fakes/manual-clock.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const NAMESPACE = 'k8s.io';
const directory = temporaryDirectory();
let store: FakeContentStore;
let image: EncryptedImage;
let ledger: ExtractionLedger;
let grantor: KeyGrantor;

beforeEach(async () => {
  store = await FakeContentStore.start(join(directory(), 'containerd.sock'));
  image = encryptedImage([randomBytes(5000)]);
  storeEncryptedImage(store, NAMESPACE, image);
  const issuer = new LeaseIssuer(manualClock());
  issuer.imageKeys.set(image.imageKeyId, image.imageKey);
  issuer.statements.set(image.manifestDigest, encryptedImageStatement(image));
  ledger = new ExtractionLedger();
  grantor = keyGrantor(ledger, store, issuer);
});
afterEach(() => store.close());

/** What containerd has of the layer from now on. */
function damage(): Buffer {
  const { digest, ciphertext } = image.layers[0]!;
  const damaged = Buffer.from(ciphertext);
  damaged[100]! ^= 1;
  store.put(NAMESPACE, digest, damaged);
  return damaged;
}

function mend(): Buffer {
  const { digest, ciphertext } = image.layers[0]!;
  store.put(NAMESPACE, digest, ciphertext);
  return Buffer.from(ciphertext);
}

test('by whoever unpacks it', async () => {
  const layerDigest = image.layers[0]!.digest;
  for (const change of [damage, mend, damage]) {
    ledger.open('unpacking', layerIdentity(image, NAMESPACE));
    expect(await grantor.grant(change(), undefined)).toMatchObject({ layerDigest });
    ledger.close('unpacking');
  }
});

test('but not what is in its place once it has proved authentic', async () => {
  ledger.open('unpacking', layerIdentity(image, NAMESPACE));
  const grant = await grantor.grant(mend(), undefined);
  grant.verified();
  ledger.close('unpacking');
  ledger.open('unpacking', layerIdentity(image, NAMESPACE));
  await expect(grantor.grant(damage(), undefined)).rejects.toMatchObject({ code: 'DENIED_FOREIGN_UNPACK' });
  expect(await grantor.grant(mend(), undefined)).toMatchObject({ layerDigest: grant.layerDigest });
});

test.each([false, true])('where it is known by its head alone, hint: %s', async (hasHint) => {
  const index = new LayerIndex(store.connection);
  const hint = hasHint ? image.layers[0]!.digest : undefined;
  for (const change of [damage, mend]) expect(await index.recordsByHead(change(), hint)).toHaveLength(1);
  expect(await index.recordsByHead(randomBytes(500), hint)).toEqual([]);
});
