import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { requireAttestationChoice, requireKeptLayers } from '#src/image/attestation-plan.ts';
import { describeArtifact } from '#src/image/attestations.ts';
import {
  type ArtifactNode,
  type ImageGraph,
  platformImages,
  readImageGraph,
} from '#src/image/image-graph.ts';
import { planEncryption } from '#src/image/plan.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import {
  IN_TOTO,
  attestationEntry,
  statementAbout,
  storeAttestedImage,
  storeBlob,
} from '../fakes/attested-image.ts';
import { bytesOf, fakeIndex } from '../fakes/image.ts';
import { realLayer, storeRealImage } from './real-image.ts';
import { type RoundTrip, openRoundTrip } from './round-trip.ts';

const SPDX = 'application/spdx+json';

let trip: RoundTrip;
beforeEach(async () => (trip = await openRoundTrip()));
afterEach(() => trip.dispose());

const artifacts = (graph: ImageGraph): ArtifactNode[] =>
  graph.nodes.filter((node) => node.kind === 'artifact');
const entriesOf = (graph: ImageGraph): readonly Descriptor[] =>
  graph.nodes.flatMap((node) => (node.kind === 'index' ? node.index.manifests : []));

describe('BuildKit attestations', () => {
  test('are found, and nothing goes on without a word about them', async () => {
    await storeAttestedImage(trip.source);
    const graph = await readImageGraph(trip.source, 'v1');
    const plan = planEncryption(graph, { kind: 'all' });
    expect(plan.artifacts).toMatchObject([
      { isAttestation: true, action: 'undecided', title: 'SBOM, provenance of linux/amd64' },
      { isAttestation: true, action: 'undecided', title: 'SBOM, provenance of linux/arm64' },
    ]);
    expect(() => requireAttestationChoice(plan.artifacts)).toThrow(
      expect.objectContaining({
        code: 'USAGE_INVALID',
        message: expect.stringMatching(/SBOM, provenance of linux\/amd64/) as string,
        hint: expect.stringMatching(/drop .*encrypt .*keep/) as string,
      }),
    );
    const decided = planEncryption(graph, { kind: 'all' }, { attestations: 'drop' });
    expect(() => requireAttestationChoice(decided.artifacts)).not.toThrow();
  });

  test.each([undefined, 'drop'] as const)('are left out by %s', async (attestations) => {
    await storeAttestedImage(trip.source);
    const graph = await trip.encrypt({ attestations });
    expect(artifacts(graph)).toEqual([]);
    expect(entriesOf(graph).map((entry) => entry.platform?.architecture)).toEqual(['amd64', 'arm64']);
  });

  test('are kept, and point at the new manifests', async () => {
    const { attestations } = await storeAttestedImage(trip.source);
    const graph = await trip.encrypt({ attestations: 'keep' });
    // Nothing in them changes, so neither does their digest.
    expect(artifacts(graph).map((node) => node.blob.bytes)).toEqual(attestations.map(({ bytes }) => bytes));
    const images = platformImages(graph).map((image) => image.blob.descriptor.digest);
    expect(artifacts(graph).map((node) => describeArtifact(node).about)).toEqual(images);
    const [first] = artifacts(graph);
    expect((await bytesOf(trip.encrypted.openBlob(first!.manifest.layers[0]!))).toString()).toContain(
      'secret-alg',
    );
    await bytesOf(trip.encrypted.openBlob(first!.manifest.config));
  });

  test('are encrypted for the same recipients, and come back byte for byte', async () => {
    const { attestations } = await storeAttestedImage(trip.source);
    const graph = await trip.encrypt({ attestations: 'encrypt' });
    for (const { manifest } of artifacts(graph)) {
      expect(manifest.layers.map((layer) => layer.mediaType)).toEqual([
        `${IN_TOTO}+encrypted`,
        `${IN_TOTO}+encrypted`,
      ]);
      const stored = await bytesOf(trip.encrypted.openBlob(manifest.layers[0]!));
      expect(stored.includes('secret-algorithm')).toBe(false);
      expect(manifest.layers[0]?.annotations).toMatchObject({
        'in-toto.io/predicate-type': 'https://spdx.dev/Document',
      });
    }
    const back = await trip.decrypt();
    expect(artifacts(back).map((node) => node.blob.descriptor)).toEqual(
      attestations.map(({ descriptor }) => descriptor),
    );
    const images = platformImages(back).map((image) => image.blob.descriptor.digest);
    expect(artifacts(back).map((node) => describeArtifact(node).about)).toEqual(images);
    for (const { manifest } of artifacts(back)) {
      for (const layer of manifest.layers) {
        expect(digestOf(await bytesOf(trip.decrypted.openBlob(layer)))).toBe(layer.digest);
      }
    }
  });

  test('once encrypted need no word when the image is encrypted further', async () => {
    await storeAttestedImage(trip.source);
    await trip.encrypt({ attestations: 'encrypt', selection: { kind: 'layers', positions: [0] } });
    const graph = await readImageGraph(trip.encrypted, 'v1');
    expect(artifacts(graph).every((node) => describeArtifact(node).isEncrypted)).toBe(true);
  });

  test.each([
    ['a gzip bomb', gzipSync(Buffer.alloc(64 * 1024 * 1024))],
    ['no JSON at all', randomBytes(1000)],
    ['endless nesting', Buffer.from('['.repeat(1_000_000))],
    ['nothing', Buffer.alloc(0)],
  ])('with %s inside are passed on without being looked at', async (_what, document) => {
    await storeAttestedImage(trip.source, [document]);
    await trip.encrypt({ attestations: 'encrypt' });
    const [attestation] = artifacts(await trip.decrypt());
    const stored = await bytesOf(trip.decrypted.openBlob(attestation!.manifest.layers[0]!));
    expect(stored.equals(document)).toBe(true);
  });

  test('that were exchanged in the source are refused', async () => {
    await storeAttestedImage(trip.source);
    const graph = await readImageGraph(trip.source, 'v1');
    const [attestation] = artifacts(graph);
    const layer = attestation!.manifest.layers[0]!;
    const path = trip.source.localPath?.(layer.digest);
    const { writeFile } = await import('node:fs/promises');
    await writeFile(path!, randomBytes(layer.size));
    await expect(trip.encrypt({ attestations: 'encrypt' })).rejects.toThrow(
      expect.objectContaining({ code: 'INPUT_DIGEST_MISMATCH' }),
    );
  });

  test('whose pointer is no digest, or leads nowhere, are found all the same', async () => {
    const { images, attestations } = await storeAttestedImage(trip.source);
    const lost = ['nonsense', digestOf('elsewhere')].map((pointer) => ({
      ...attestationEntry(attestations[0]!, images[0]!),
      annotations: {
        'vnd.docker.reference.digest': pointer,
        'vnd.docker.reference.type': 'attestation-manifest',
      },
    }));
    for (const entry of lost) {
      const manifests = [
        { ...images[0]!.descriptor, platform: { os: 'linux', architecture: 'amd64' } },
        entry,
      ];
      const index = encodeImageDocument({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests });
      await trip.source.writeManifest(index, 'v1');
      const plan = planEncryption(await readImageGraph(trip.source, 'v1'), { kind: 'all' });
      expect(plan.artifacts).toMatchObject([{ action: 'undecided', title: 'SBOM, provenance' }]);
    }
  });
});

test('an attestation that is a layer of the image can only be kept', async () => {
  const gzip = await realLayer(MEDIA_TYPE.ociLayerGzip);
  const odd = { ...gzip, descriptor: { ...gzip.descriptor, mediaType: IN_TOTO } };
  const layers = [odd, await realLayer(MEDIA_TYPE.ociLayerGzip)];
  await storeRealImage(trip.source, layers, { tag: 'v1' });
  const { platforms } = planEncryption(await readImageGraph(trip.source, 'v1'), { kind: 'all' });
  for (const choice of [undefined, 'drop', 'encrypt'] as const) {
    expect(() => requireKeptLayers(platforms, choice)).toThrow(
      expect.objectContaining({
        code: 'USAGE_INVALID',
        message: expect.stringMatching(/^layer 0 of linux\/amd64 is an attestation .*in-toto/) as string,
      }),
    );
  }
  expect(() => requireKeptLayers(platforms, 'keep')).not.toThrow();
});

describe('artifacts with a subject', () => {
  async function storeWithArtifact(artifactType: string, mediaType: string) {
    const image = await storeRealImage(trip.source, [await realLayer(MEDIA_TYPE.ociLayerGzip)], {
      isChild: true,
    });
    const artifact = encodeImageDocument({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociManifest,
      artifactType,
      config: await storeBlob(trip.source, MEDIA_TYPE.ociEmpty, Buffer.from('{}')),
      layers: [await storeBlob(trip.source, mediaType, statementAbout(image, 'x'))],
      subject: image.descriptor,
      annotations: { mine: 'kept' },
    });
    await trip.source.writeManifest(artifact, undefined, { isChild: true });
    // The artifact first: what it is about comes later.
    const manifests = [
      artifact.descriptor,
      { ...image.descriptor, platform: { os: 'linux', architecture: 'amd64' } },
    ];
    await trip.source.writeManifest(
      encodeImageDocument({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests }),
      'v1',
    );
  }

  test.each([
    ['application/vnd.docker.attestation.manifest.v1+json', IN_TOTO],
    ['application/spdx+json', 'application/spdx+json'],
    ['application/vnd.cyclonedx+json', 'application/vnd.cyclonedx+json'],
    ['application/vnd.dev.sigstore.bundle.v0.3+json', 'application/vnd.dev.sigstore.bundle.v0.3+json'],
    ['text/spdx', 'text/spdx'],
    ['application/vnd.syft+json', 'application/vnd.syft+json'],
    ['application/vnd.dsse.envelope.v1+json', 'application/vnd.dsse.envelope.v1+json'],
  ])('of type %s are attestations', async (artifactType, mediaType) => {
    await storeWithArtifact(artifactType, mediaType);
    const plan = planEncryption(await readImageGraph(trip.source, 'v1'), { kind: 'all' });
    expect(plan.artifacts).toMatchObject([{ isAttestation: true, action: 'undecided' }]);
  });

  test('keep everything but the subject, which becomes the new manifest', async () => {
    await storeWithArtifact('application/vnd.acme.manual', 'text/html');
    const graph = await trip.encrypt();
    const [image] = platformImages(graph);
    const [artifact] = artifacts(graph);
    expect(artifact?.manifest).toMatchObject({
      artifactType: 'application/vnd.acme.manual',
      annotations: { mine: 'kept' },
      subject: image!.blob.descriptor,
    });
    expect(entriesOf(graph).map(({ digest }) => digest)).toEqual([
      artifact!.blob.descriptor.digest,
      image!.blob.descriptor.digest,
    ]);
    const [back] = artifacts(await trip.decrypt());
    expect((await bytesOf(trip.decrypted.openBlob(back!.manifest.layers[0]!))).toString()).toContain(
      'packages',
    );
  });

  test('that are none of ours pass, and it is said', async () => {
    await storeWithArtifact('application/vnd.acme.manual', 'text/html');
    const plan = planEncryption(await readImageGraph(trip.source, 'v1'), { kind: 'all' });
    expect(plan.artifacts).toMatchObject([{ isAttestation: false, action: 'keep' }]);
    expect(plan.notes).toEqual([expect.stringMatching(/artifact passes through untouched.*text\/html/)]);
    expect(() => requireAttestationChoice(plan.artifacts)).not.toThrow(LatchkeyError);
  });
});

describe('an attestation', () => {
  test.each([
    [
      'with its document in the config is not said to be encrypted',
      '{"packages":["secret-algorithm"]}',
      true,
    ],
    ['with an empty config is', '{}', false],
  ])('%s', async (_what, configText, isRefused) => {
    const image = await storeRealImage(trip.source, [await realLayer(MEDIA_TYPE.ociLayer)], {
      isChild: true,
    });
    const artifact = encodeImageDocument({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociManifest,
      config: await storeBlob(trip.source, SPDX, Buffer.from(configText)),
      layers: [await storeBlob(trip.source, 'application/json', Buffer.from('[]'))],
    });
    await trip.source.writeManifest(artifact, undefined, { isChild: true });
    await trip.source.writeManifest(fakeIndex([image, artifact]), 'v1');
    const planned = trip.encrypt({ attestations: 'encrypt' });
    if (isRefused) await expect(planned).rejects.toMatchObject({ code: 'INPUT_UNSUPPORTED' });
    else await planned;
    await trip.encrypt({ attestations: 'drop' });
  });

  test.each<[string, { manifest?: string; entry?: string; config?: string; document?: string }, boolean]>([
    ['the manifest', { manifest: SPDX }, true],
    ['the entry of the index', { entry: SPDX }, true],
    ['the config', { config: SPDX }, true],
    ['the document', { document: SPDX }, true],
    ['nobody', {}, false],
  ])('is one when only %s says so', async (_who, types, isAttestation) => {
    const bytes = Buffer.from('{}');
    const artifact = encodeImageDocument({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociManifest,
      artifactType: types.manifest,
      config: await storeBlob(trip.source, types.config ?? MEDIA_TYPE.ociEmpty, bytes),
      layers: [await storeBlob(trip.source, types.document ?? 'application/json', bytes)],
    });
    await trip.source.writeManifest(artifact, undefined, { isChild: true });
    const image = await storeRealImage(trip.source, [await realLayer(MEDIA_TYPE.ociLayer)], {
      isChild: true,
    });
    const manifests = [image.descriptor, { ...artifact.descriptor, artifactType: types.entry }];
    const index = encodeImageDocument({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests });
    await trip.source.writeManifest(index, 'v1');
    const [found] = artifacts(await readImageGraph(trip.source, 'v1'));
    expect(describeArtifact(found!)).toMatchObject({ isAttestation });
  });
});
