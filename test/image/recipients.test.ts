/** Changed recipients of an image with several platforms and encrypted attestations. */
import { type KeyObject, generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { decryptImage } from '#src/image/decrypt.ts';
import { encryptedBlobs } from '#src/image/encrypted-layers.ts';
import { type ImageGraph, platformImages, readImageGraph } from '#src/image/image-graph.ts';
import { planEncryption } from '#src/image/plan.ts';
import { publish } from '#src/image/publication.ts';
import { publishImage } from '#src/image/publish.ts';
import { listRecipients } from '#src/image/recipient-list.ts';
import { type RecipientChange, changeRecipients } from '#src/image/recipients.ts';
import { createJweUnwrapper, createJweWrapper } from '#src/keywrap/jwe.ts';
import { parseElementName } from '#src/keywrap/element-list.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { openLayout } from '#src/store/layout.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { alteredStore } from '../fakes/altered-store.ts';
import { storeAttestedImage } from '../fakes/attested-image.ts';
import { bytesOf } from '../fakes/image.ts';
import { inlineBlobs, inlineEverything } from './inline-data.ts';

const [first, second] = [0, 1].map(() => generateKeyPairSync('ec', { namedCurve: 'P-256' })) as [Pair, Pair];
interface Pair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}
const wrapperFor = (...pairs: Pair[]) => createJweWrapper(pairs.map(({ publicKey }) => publicKey));
const unwrapperOf = ({ privateKey }: Pair) => createJweUnwrapper(privateKey);

let directory: string;
let encrypted: ImageGraph;
let store: BlobStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-change-'));
  const source = openLayout(join(directory, 'source'));
  await storeAttestedImage(source);
  const graph = await readImageGraph(source, 'v1');
  store = createMemoryStore();
  await publishImage({
    graph,
    plan: planEncryption(graph, { kind: 'all' }, { attestations: 'encrypt' }),
    destination: store,
    wrappers: [wrapperFor(first)],
    recipientIds: [],
    isSalted: true,
    ...publication(),
  });
  encrypted = await readImageGraph(store, 'v1');
});

afterEach(() => rm(directory, { recursive: true, force: true }));

function publication() {
  return {
    tag: 'v1',
    repository: 'r',
    cacheDirectory: join(directory, 'cache'),
    clock: systemClock,
  };
}

async function change(how: RecipientChange, destination: BlobStore, graph = encrypted): Promise<ImageGraph> {
  const production = changeRecipients({ graph, change: how, identity: how.kind });
  await publish({ ...publication(), destination }, production);
  return readImageGraph(destination, 'v1');
}

const blobDigests = (graph: ImageGraph) => encryptedBlobs(graph).map(({ descriptor }) => descriptor.digest);

/** The plaintext of everything that is encrypted, as somebody with a key gets it. */
async function plaintexts(graph: ImageGraph, who: Pair): Promise<Buffer[]> {
  const destination = openLayout(await mkdtemp(join(directory, 'plain-')));
  const { source } = graph;
  const image = await decryptImage({ source, graph, destination, unwrappers: [unwrapperOf(who)] });
  const layers = image.manifests.flatMap(({ bytes }) => {
    const { layers: listed = [] } = JSON.parse(Buffer.from(bytes).toString()) as {
      layers?: { mediaType: string; digest: Digest; size: number }[];
    };
    return listed;
  });
  return Promise.all(layers.map((layer) => bytesOf(destination.openBlob(layer))));
}

/** Counts blobs that are written, and fails after some. */
function watched(inner: BlobStore, failAfter = Number.POSITIVE_INFINITY) {
  const written: Descriptor[] = [];
  const outer = alteredStore(inner, {
    writeBlob: async (descriptor, ...args) => {
      if (written.length >= failAfter) throw new LatchkeyError('NET_UNREACHABLE', 'the registry is down');
      written.push(descriptor);
      await inner.writeBlob(descriptor, ...args);
    },
  });
  return { store: outer, written };
}

describe('adding', () => {
  const add = {
    kind: 'add',
    unwrappers: [unwrapperOf(first)],
    wrappers: [wrapperFor(second)],
  } as const;

  test('lets the new one open all platforms and attestations, and writes no blob', async () => {
    const { store: destination, written } = watched(store);
    const changed = await change(add, destination);
    expect(written).toEqual([]);
    expect(blobDigests(changed)).toEqual(blobDigests(encrypted));
    expect(blobDigests(changed).length).toBeGreaterThan(3);
    expect(changed.root.descriptor.digest).not.toBe(encrypted.root.descriptor.digest);
    expect(await plaintexts(changed, second)).toEqual(await plaintexts(encrypted, first));
    const listed = await listRecipients(changed);
    for (const { recipients } of listed)
      expect(recipients.map(({ name }) => name)).toEqual(['jwe#1', 'jwe#2']);
    const configs = (graph: ImageGraph) =>
      platformImages(graph).map(({ manifest }) => manifest.config.digest);
    expect(configs(changed)).toEqual(configs(encrypted));
  });

  test('copies everything to another place', async () => {
    const changed = await change(add, createMemoryStore('elsewhere'));
    expect(await plaintexts(changed, second)).toEqual(await plaintexts(encrypted, first));
  });
});

describe('new layer keys', () => {
  const rekey = {
    kind: 'rekey',
    unwrappers: [unwrapperOf(first)],
    wrappers: [wrapperFor(second)],
  } as const;

  test('lock out whoever is not given again; content and diff IDs stay', async () => {
    const changed = await change(rekey, store);
    await expect(plaintexts(changed, first)).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    const old = blobDigests(encrypted);
    expect(blobDigests(changed).filter((digest) => old.includes(digest))).toEqual([]);
    expect(await plaintexts(changed, second)).toEqual(await plaintexts(encrypted, first));
    const diffIds = (graph: ImageGraph) => platformImages(graph).map((image) => image.diffIds);
    expect(diffIds(changed)).toEqual(diffIds(encrypted));
  });

  test('leave nothing inline that the old keys open', async () => {
    const changed = await change(rekey, store, await inlineEverything(store));
    const old = blobDigests(encrypted);
    expect(inlineBlobs(changed).filter((digest) => old.includes(digest))).toEqual([]);
  });

  test('go on after a failed push with the same ciphertext', async () => {
    const failing = watched(createMemoryStore('out'), 2);
    await expect(change(rekey, failing.store)).rejects.toThrow('the registry is down');
    const destination = createMemoryStore('out');
    const changed = await change(rekey, destination);
    expect(failing.written).toHaveLength(2);
    for (const blob of failing.written) expect(await destination.hasBlob(blob)).toBe(true);
    expect(await plaintexts(changed, second)).toEqual(await plaintexts(encrypted, first));
  });

  test('are not made from ciphertext that is not authentic', async () => {
    const [blob] = encryptedBlobs(encrypted);
    const corrupt = {
      ...store,
      location: store.location,
      readManifest: (...args: Parameters<BlobStore['readManifest']>) => store.readManifest(...args),
      listReferrers: (...args: Parameters<BlobStore['listReferrers']>) => store.listReferrers(...args),
      async *openBlob(...[descriptor, options]: Parameters<BlobStore['openBlob']>) {
        for await (const chunk of store.openBlob(descriptor, options)) {
          const copy = Buffer.from(chunk);
          // As a registry could: past the check of the digest, which is another matter.
          if (descriptor.digest === blob!.descriptor.digest) copy[0]! ^= 1;
          yield copy;
        }
      },
    };
    const destination = openLayout(join(directory, 'out'));
    await expect(change(rekey, destination, { ...encrypted, source: corrupt })).rejects.toMatchObject({
      code: 'CRYPTO_AUTHENTICATION_FAILED',
    });
    await expect(destination.readManifest('v1')).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  });
});

test('dropping the last recipient is refused', async () => {
  const drop = { kind: 'drop', names: [parseElementName('jwe#1')] } as const;
  await expect(change(drop, store)).rejects.toMatchObject({ code: 'USAGE_INVALID' });
});
