/** A changed image decrypts to an error, or to the very layers that were encrypted, each in its place. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { describeGraph } from '#src/image/describe-image.ts';
import { type ImageGraph, readImageGraph } from '#src/image/image-graph.ts';
import { releaseAlterations } from '#src/image/statement-match.ts';
import { digestOf, type Digest } from '#src/oci/digest.ts';
import { type DecryptedInMemory, decryptInMemory } from './decrypt-in-memory.ts';
import { type EncryptedFixture, ownFixture, sourceOf } from './encrypted-fixture.ts';
import { RUNS, mutatedBytes, mutatedJson } from './hostile-values.ts';
import { imageMutations, mutateImage } from './image-mutations.ts';
import { closeImage, openFixture } from './opened-image.ts';
import { skopeoFixture } from './skopeo-fixture.ts';

let fixtures: readonly EncryptedFixture[];
/** Another image for the same recipient: what is in it is authentic, too, but belongs elsewhere. */
let foreign: EncryptedFixture;

beforeAll(async () => {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  foreign = await ownFixture('foreign', pair);
  fixtures = [await ownFixture('ours', pair), await skopeoFixture()];
});

const whichFixture = fc.nat(1);

type Blobs = Pick<EncryptedFixture, 'blobs' | 'root'>;

interface Outcome {
  readonly graph?: ImageGraph;
  readonly result?: DecryptedInMemory;
}

/** Decrypts; whatever is raised must be ours. */
async function attempt(
  { blobs, root }: Blobs,
  { unwrappers }: EncryptedFixture,
  isLocal = false,
): Promise<Outcome> {
  let graph: ImageGraph | undefined;
  const directory = isLocal ? mkdtempSync(join(tmpdir(), 'latchkey-hostile-')) : undefined;
  try {
    const source = sourceOf(blobs, directory);
    graph = await readImageGraph(source, root);
    return { graph, result: await decryptInMemory(source, graph, unwrappers) };
  } catch (error) {
    expect(error).toBeInstanceOf(LatchkeyError);
    expect((error as LatchkeyError).code).not.toBe('BUG_UNEXPECTED');
    return graph === undefined ? {} : { graph };
  } finally {
    if (directory !== undefined) rmSync(directory, { recursive: true });
  }
}

/** Every layer that was decrypted is what the diff ID at its place stands for. */
async function checkLayers(result: DecryptedInMemory, known: readonly EncryptedFixture[]): Promise<void> {
  const originals = new Map(known.flatMap(({ plainLayers }) => [...plainLayers]));
  for (const { manifest, diffIds } of result.images) {
    for (const [position, layer] of manifest.layers.entries()) {
      if (!result.decrypted.has(layer.digest)) continue;
      const bytes = await result.read(layer.digest);
      const diffId = diffIds[position];
      const expected = diffId === undefined ? [...originals.values()] : [originals.get(diffId)];
      expect(expected.some((original) => original !== undefined && bytes.equals(original))).toBe(true);
    }
  }
}

/** The signed statement tells the image from the released one. */
function checkStatement(graph: ImageGraph | undefined, root: Digest, { statement }: EncryptedFixture): void {
  if (graph === undefined) return;
  try {
    const alterations = releaseAlterations(statement, describeGraph(graph));
    expect(alterations.length === 0).toBe(root === statement.root.digest);
  } catch (error) {
    expect(error).toBeInstanceOf(LatchkeyError);
  }
}

async function check(image: Blobs, fixture: EncryptedFixture): Promise<void> {
  const { graph, result } = await attempt(image, fixture);
  if (result !== undefined) await checkLayers(result, [fixture, foreign]);
  checkStatement(graph, image.root, fixture);
}

describe('a mutated image never decrypts to other plaintext', () => {
  test('and untouched decrypts to its own', async () => {
    for (const fixture of fixtures) {
      const image = closeImage(openFixture(fixture));
      expect(image.root).toBe(fixture.root);
      const { graph, result } = await attempt(image, fixture);
      expect(result?.decrypted.size).toBeGreaterThan(1);
      await checkLayers(result!, [fixture]);
      expect(releaseAlterations(fixture.statement, describeGraph(graph!))).toEqual([]);
    }
  });

  test('with any byte of any blob changed', async () => {
    const damage = whichFixture.chain((which) => {
      const blobs = [...fixtures[which]!.blobs];
      return fc
        .nat(blobs.length - 1)
        .chain((at) =>
          fc.tuple(fc.constant(which), fc.constant(at), fc.boolean(), mutatedBytes(blobs[at]![1])),
        );
    });
    await fc.assert(
      fc.asyncProperty(damage, async ([which, at, isLocal, bytes]) => {
        const fixture = fixtures[which]!;
        const blobs = new Map(fixture.blobs);
        blobs.set([...blobs.keys()][at]!, bytes);
        const { result } = await attempt({ blobs, root: fixture.root }, fixture, isLocal);
        if (result !== undefined) await checkLayers(result, [fixture]);
      }),
      { numRuns: RUNS },
    );
  });

  test('with layers, keys, options, configs and platforms changed, and all digests set right', async () => {
    await fc.assert(
      fc.asyncProperty(whichFixture, imageMutations, async (which, mutations) => {
        const fixture = fixtures[which]!;
        const opened = openFixture(fixture);
        for (const mutation of mutations) await mutateImage(opened, mutation, fixture, foreign);
        await check(closeImage(opened), fixture);
      }),
      { numRuns: RUNS * 2 },
    );
  });

  test('with any field of a manifest, index or config changed, and all digests set right', async () => {
    const change = fc.record({
      which: whichFixture,
      part: fc.constantFrom('manifest', 'config', 'index'),
      image: fc.nat(1),
    });
    await fc.assert(
      fc.asyncProperty(
        change.chain((chosen) => {
          const opened = openFixture(fixtures[chosen.which]!);
          const image = opened.images[chosen.image % opened.images.length]!;
          const document = chosen.part === 'config' ? image.config : image.manifest;
          const bytes = Buffer.from(
            JSON.stringify(chosen.part === 'index' ? (opened.index ?? document) : document),
          );
          return fc.tuple(fc.constant(chosen), mutatedJson(bytes));
        }),
        async ([{ which, part, image }, changed]) => {
          const fixture = fixtures[which]!;
          await check(replaceDocument(fixture, part, image, changed), fixture);
        },
      ),
      { numRuns: RUNS * 2 },
    );
  });
});

/** Puts bytes where a document was, and sets right what names it. */
function replaceDocument(fixture: EncryptedFixture, part: string, which: number, bytes: Uint8Array): Blobs {
  const opened = openFixture(fixture);
  const image = opened.images[which % opened.images.length]!;
  const blobs = opened.blobs;
  const store = (content: Uint8Array) => {
    blobs.set(digestOf(content), content);
    return { digest: digestOf(content), size: content.length };
  };
  if (part === 'index') return { blobs, root: store(bytes).digest };
  const manifest =
    part === 'manifest'
      ? bytes
      : Buffer.from(
          JSON.stringify({ ...image.manifest, config: { ...image.manifest.config, ...store(bytes) } }),
        );
  const named = store(manifest);
  if (opened.index === undefined) return { blobs, root: named.digest };
  const manifests = opened.index.manifests.with(which % opened.images.length, {
    ...opened.index.manifests[which % opened.images.length]!,
    ...named,
  });
  return { blobs, root: store(Buffer.from(JSON.stringify({ ...opened.index, manifests }))).digest };
}
