import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalJson } from '#src/base/json.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  type ReleaseStatement,
  type StatementImage,
  encodeStatement,
  openStatement,
  parseStatement,
  readStatement,
} from '#src/image/statement.ts';
import { imageAlterations, releaseAlterations } from '#src/image/statement-match.ts';
import { digestOf } from '#src/oci/digest.ts';
import {
  randomImage,
  randomLayer,
  signedEnvelope,
  signingKeyPair,
  statementOf,
} from '../fakes/release-statement.ts';

const amd64 = { os: 'linux', architecture: 'amd64' };
const image = randomImage();
const statement = statementOf([image]);
const withLayers = (layers: StatementImage['layers'], from = image): StatementImage => ({
  ...from,
  manifest: digestOf(randomBytes(8)),
  layers,
});
const [base, one, two] = image.layers as [
  StatementImage['layers'][number],
  StatementImage['layers'][number],
  StatementImage['layers'][number],
];
const kindsOf = (found: StatementImage, of: ReleaseStatement = statement) =>
  imageAlterations(of, found, amd64).map(({ kind }) => kind);

describe('a statement', () => {
  test('comes back as it was written, the same bytes every time', () => {
    const several = statementOf([randomImage(), randomImage('arm64')]);
    for (const given of [statement, several, { ...statement, productCode: undefined }]) {
      const bytes = encodeStatement(given);
      expect(parseStatement(bytes)).toEqual(given);
      expect(Buffer.from(encodeStatement(parseStatement(bytes)))).toEqual(Buffer.from(bytes));
    }
  });

  test('is in-toto: type, subjects by sha256, predicate type', () => {
    const value = JSON.parse(Buffer.from(encodeStatement(statement)).toString()) as Record<string, unknown>;
    expect(value).toMatchObject({
      _type: 'https://in-toto.io/Statement/v1',
      predicateType: 'urn:latchkey:release:v1',
      subject: [{ name: 'linux/amd64', digest: { sha256: image.manifest.slice('sha256:'.length) } }],
    });
  });

  test('must name what it tells of', () => {
    const value = JSON.parse(Buffer.from(encodeStatement(statement)).toString()) as Record<string, unknown>;
    const without = (change: object) => Buffer.from(canonicalJson({ ...value, ...change }));
    for (const change of [
      { subject: [] },
      { subject: [{ name: 'x', digest: { sha256: 'short' } }] },
      { predicateType: 'https://slsa.dev/provenance/v1' },
      { predicate: undefined },
      { extra: 1 },
    ]) {
      expect(() => parseStatement(without(change))).toThrow(LatchkeyError);
    }
  });

  test('opens with a key that signed it and with no other', () => {
    const [server, vendor, stranger] = [signingKeyPair(), signingKeyPair('ec'), signingKeyPair()];
    const envelope = signedEnvelope(statement, vendor, server);
    expect(openStatement(envelope, [server.publicKey]).statement).toEqual(statement);
    expect(openStatement(envelope, [vendor.publicKey]).key).toBe(vendor.publicKey);
    expect(() => openStatement(envelope, [stranger.publicKey])).toThrow(
      expect.objectContaining({ code: 'CRYPTO_AUTHENTICATION_FAILED' }),
    );
  });

  test('of arbitrary JSON raises nothing but LatchkeyErrors', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        for (const read of [parseStatement, readStatement]) {
          try {
            read(Buffer.from(text));
          } catch (error) {
            expect(error).toBeInstanceOf(LatchkeyError);
          }
        }
      }),
    );
  });
});

describe('an image', () => {
  test('that was released has no alterations', () => {
    expect(imageAlterations(statement, image, amd64)).toEqual([]);
    expect(releaseAlterations(statement, statement)).toEqual([]);
  });

  test.each<[string, StatementImage]>([
    ['layer-swapped', withLayers([base, randomLayer('ik-1'), two])],
    ['layer-dropped', withLayers([base, one])],
    ['layer-dropped', withLayers([base, two])],
    ['layer-added', withLayers([base, one, two, randomLayer()])],
    ['layer-added', withLayers([base, one, two, two])],
    ['layers-reordered', withLayers([base, two, one])],
    ['layer-plain', withLayers([base, one, randomLayer()])],
    ['layer-plain', withLayers([base, { ...one, isEncrypted: false, imageKeyIds: [] }, two])],
    ['layer-changed', withLayers([base, { ...one, imageKeyIds: ['ik-2'] }, two])],
    ['layer-swapped', withLayers([base, { ...one, diffId: two.diffId }, two])],
    ['foreign-config', { ...image, manifest: digestOf('other'), config: digestOf('foreign') }],
  ])('with something done to it is told as %s', (kind, found) => {
    expect(kindsOf(found)).toEqual([kind]);
    // A statement that names the manifest and tells something else of it does not help the forger.
    const lying = { ...statement, images: [{ ...image, manifest: found.manifest }] };
    expect(kindsOf(found, lying)).toEqual([kind]);
  });

  test('that is unknown, or another manifest of the same content, is told so', () => {
    const repacked = { ...image, manifest: digestOf('annotated') };
    expect(kindsOf(repacked)).toEqual(['unknown-manifest']);
    const foreign = { ...randomImage('s390x'), platform: { os: 'plan9', architecture: 's390x' } };
    expect(imageAlterations(statement, foreign).map(({ kind }) => kind)).toEqual(['unknown-manifest']);
  });

  test('for another platform may not stand in for this one, unless there is none for this one', () => {
    const arm = randomImage('arm64');
    expect(kindsOf(arm, statementOf([image, arm]))).toEqual(['replaced-platform']);
    expect(kindsOf(arm, statementOf([arm]))).toEqual([]);
    expect(kindsOf(image, statementOf([image, arm]))).toEqual([]);
  });

  test('whose index was changed is told by its manifests', () => {
    const arm = randomImage('arm64');
    const whole = statementOf([image, arm]);
    const forgedRoot = digestOf('a forged index');
    const dropped = {
      root: { ...whole.root, digest: forgedRoot },
      manifests: [image.manifest, forgedRoot],
      images: [image],
    };
    expect(releaseAlterations(whole, dropped).map(({ kind }) => kind)).toEqual([
      'unknown-manifest',
      'missing-manifest',
      'missing-manifest',
    ]);
    const relabelled = { ...whole, images: [{ ...arm, platform: amd64 }] };
    expect(releaseAlterations(whole, relabelled).map(({ kind }) => kind)).toEqual(['replaced-platform']);
  });

  test('is altered however one field of it is changed', () => {
    const several = statementOf([image, randomImage('arm64')]);
    const text = JSON.stringify(several.images[0]);
    fc.assert(
      fc.property(
        fc.nat(text.length - 1),
        fc.constantFrom('0', '1', 'a', 'f', 'x'),
        (position, character) => {
          const changed = text.slice(0, position) + character + text.slice(position + 1);
          let found: StatementImage;
          try {
            found = JSON.parse(changed) as StatementImage;
          } catch {
            return;
          }
          if (canonicalJson(found) === canonicalJson(image)) return;
          const known = ['platform', 'manifest', 'config', 'layers'];
          if (
            Object.keys(found).join() !== known.join() ||
            found.layers.some((layer) => !('isEncrypted' in layer))
          ) {
            return;
          }
          const isComplete = found.layers.every(
            (layer) => Object.keys(layer).join() === Object.keys(base).join(),
          );
          const isSamePlatform = canonicalJson(found.platform) === canonicalJson(image.platform);
          if (!isComplete || !isSamePlatform) return;
          expect(imageAlterations(several, found, amd64)).not.toEqual([]);
        },
      ),
      { numRuns: 500 },
    );
  });
});
