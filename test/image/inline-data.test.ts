/** What a descriptor carries inline is not its blob's any more once that is encrypted or decrypted. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ImageGraph, readImageGraph } from '#src/image/image-graph.ts';
import type { Digest } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { fakeIndex } from '../fakes/image.ts';
import { fakeReferrer, storeReferrer } from '../fakes/referrer.ts';
import { inlineBlobs, inlineEverything } from './inline-data.ts';
import { realLayer, storeRealImage } from './real-image.ts';
import { type RoundTrip, openRoundTrip } from './round-trip.ts';

let trip: RoundTrip;
let unchanged: Digest;

/** An index of an image and of an attestation that names it as its subject. */
beforeEach(async () => {
  trip = await openRoundTrip();
  const image = await storeRealImage(trip.source, [await realLayer(MEDIA_TYPE.ociLayerGzip)], {
    isChild: true,
  });
  const attestation = fakeReferrer(image.descriptor, 'application/spdx+json');
  await storeReferrer(trip.source, attestation);
  await trip.source.writeManifest(fakeIndex([image, attestation.manifest]), 'v1');
  // The config of an attestation is empty, and passes as it is.
  unchanged = attestation.config.digest;
});
afterEach(() => trip.dispose());

/** Layer and config of the image, document and config of the attestation, its subject, and the entries of both. */
const PLACES = 7;
const encrypt = (isSalted: boolean): Promise<ImageGraph> =>
  trip.encrypt({ attestations: 'encrypt', isSalted });

test.each([true, false])('nothing plain is inline in an encrypted image, salted %s', async (isSalted) => {
  expect(inlineBlobs(await inlineEverything(trip.source))).toHaveLength(PLACES);
  expect(inlineBlobs(await encrypt(isSalted))).toEqual([unchanged]);
});

test('nothing encrypted is inline in a decrypted image', async () => {
  await encrypt(true);
  expect(inlineBlobs(await inlineEverything(trip.encrypted))).toHaveLength(PLACES);
  expect(inlineBlobs(await trip.decrypt())).toEqual([unchanged]);
});

test('an attestation that is left out is not inline in its own signature', async () => {
  const graph = await readImageGraph(trip.source, 'v1');
  const [image, attestation] = graph.nodes.map(({ blob }) => blob);
  const signature = fakeReferrer(attestation!.descriptor, 'application/vnd.cncf.notary.signature', 'by me');
  await storeReferrer(trip.source, signature);
  await trip.source.writeManifest(fakeIndex([image!, attestation!, signature.manifest]), 'v1');
  await inlineEverything(trip.source);
  const encrypted = await trip.encrypt({ attestations: 'drop' });
  expect(inlineBlobs(encrypted)).toEqual([signature.config.digest, signature.layer.digest]);
});
