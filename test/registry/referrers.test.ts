// Signatures and other referrers, in registries that list them and in those that do not.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MAX_REFERRERS, MAX_REFERRERS_TAG_ATTEMPTS, MAX_REFERRER_PAGES } from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestOf } from '#src/oci/digest.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import type { BlobStore } from '#src/store/blob-store.ts';
import { referrersTag } from '#src/store/referrers.ts';
import { dockerRegistrySkipReason, startDockerRegistry } from '../../lab/docker-registry.ts';
import { fakeImage, storeImage } from '../fakes/image.ts';
import { fakeReferrer, storeReferrer } from '../fakes/referrer.ts';
import { addReferrersApi } from '../fakes/registry-referrers.ts';
import { startFakeRegistry, type FakeRegistry } from '../fakes/registry.ts';
import { recordedTiming } from '../fakes/retry-timing.ts';

const SIGNATURE = 'application/vnd.example.signature';
const SBOM = 'application/vnd.example.sbom';
const INDEX_HEADERS = { 'content-type': MEDIA_TYPE.ociIndex };

let registry: FakeRegistry;
let store: BlobStore;
beforeEach(async () => {
  registry = await startFakeRegistry();
  store = openRegistry(parseReference(`${registry.host}/team/app:v1`), { timing: recordedTiming() });
});
afterEach(() => registry.stop());

const image = fakeImage();
const subject = image.manifest.descriptor;
const [signature, sbom] = [fakeReferrer(subject, SIGNATURE), fakeReferrer(subject, SBOM)];
const digests = (found: readonly Descriptor[]): string[] => found.map(({ digest }) => digest);

async function push(): Promise<void> {
  await storeImage(store, image, 'v1');
  await storeReferrer(store, signature);
  await storeReferrer(store, sbom);
}

const tagKey = `team/app@${referrersTag(subject.digest)}`;

describe('a registry with the referrers API', () => {
  test.each([true, false])('lists by type, over pages (filters itself: %s)', async (filters) => {
    addReferrersApi(registry, { pageSize: 1, filters });
    await push();
    expect(registry.manifests.has(tagKey)).toBe(false);
    expect(digests(await store.listReferrers(subject.digest))).toEqual([
      signature.manifest.descriptor.digest,
      sbom.manifest.descriptor.digest,
    ]);
    const [found, ...others] = await store.listReferrers(subject.digest, SBOM);
    expect(found).toMatchObject({ artifactType: SBOM, annotations: { made: 'signed' } });
    expect(others).toEqual([]);
    expect(await store.listReferrers(digestOf('another'))).toEqual([]);
  });

  const answerPage = (link: (page: number) => string, manifests: readonly unknown[] = []) => {
    let page = 0;
    registry.misbehaviours.push(({ url }, response) => {
      if (!url.pathname.includes('/referrers/')) return false;
      response.writeHead(200, { ...INDEX_HEADERS, link: link((page += 1)) });
      response.end(JSON.stringify({ schemaVersion: 2, manifests }));
      return true;
    });
    return () => page;
  };

  test('pages without end are given up', async () => {
    const pages = answerPage((page) => `</v2/team/app/referrers/x?page=${page}>; rel="next"`);
    await expect(store.listReferrers(subject.digest)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    expect(pages()).toBe(MAX_REFERRER_PAGES);
  });

  test('a next page on another host is refused', async () => {
    answerPage(() => '<http://127.0.0.1:1/steal>; rel="next"');
    await expect(store.listReferrers(subject.digest)).rejects.toMatchObject({ code: 'NET_REGISTRY' });
  });

  test('too many referrers, over pages or on one, are refused', async () => {
    const entry = { ...signature.manifest.descriptor };
    answerPage(
      (page) => `<?page=${page}>; rel="next"`,
      Array.from({ length: MAX_REFERRERS / 4 }, () => entry),
    );
    await expect(store.listReferrers(subject.digest)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    registry.misbehaviours.length = 0;
    answerPage(
      () => '',
      Array.from({ length: MAX_REFERRERS + 1 }, () => entry),
    );
    await expect(store.listReferrers(subject.digest)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });

  test.each(['nonsense', '{"schemaVersion":2,"manifests":[{"digest":"sha256:x"}]}', '{"schemaVersion":1}'])(
    'the list %s is refused',
    async (body) => {
      registry.misbehaviours.push(({ url }, response) => {
        if (!url.pathname.includes('/referrers/')) return false;
        response.writeHead(200, INDEX_HEADERS).end(body);
        return true;
      });
      await expect(store.listReferrers(subject.digest)).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
    },
  );
});

describe('a registry without it', () => {
  test('gets a tag that lists them', async () => {
    await push();
    expect(await store.listReferrers(subject.digest)).toHaveLength(2);
    expect(digests(await store.listReferrers(subject.digest, SIGNATURE))).toEqual([
      signature.manifest.descriptor.digest,
    ]);
    expect(await store.listReferrers(digestOf('another'))).toEqual([]);
  });

  test('what others have put into the list stays, and nothing is added twice', async () => {
    const other = { ...sbom.manifest.descriptor, annotations: { by: 'cosign' }, unknown: 1 };
    const list = encodeImageDocument({
      ...{ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests: [other] },
      ...{ annotations: { theirs: 'yes' }, theirField: [1] },
    });
    registry.manifests.set(tagKey, { mediaType: MEDIA_TYPE.ociIndex, bytes: list.bytes });
    await storeReferrer(store, signature);
    await storeReferrer(store, signature);
    const kept = JSON.parse(Buffer.from(registry.manifests.get(tagKey)!.bytes).toString()) as object;
    expect(kept).toMatchObject({ annotations: { theirs: 'yes' }, theirField: [1] });
    expect(kept).toHaveProperty('manifests.0', other);
    expect(kept).toHaveProperty('manifests.1.digest', signature.manifest.descriptor.digest);
    expect(kept).not.toHaveProperty('manifests.2');
  });

  test('a change that another client overwrote is repeated', async () => {
    const theirs = encodeImageDocument({
      ...{ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests: [sbom.manifest.descriptor] },
    });
    const timing = recordedTiming();
    let pauses = 0;
    // They read the list before we changed it, and write after us.
    const sleep = async (): Promise<void> => {
      if ((pauses += 1) > 1) return;
      registry.manifests.set(tagKey, { mediaType: MEDIA_TYPE.ociIndex, bytes: theirs.bytes });
    };
    const racing = openRegistry(parseReference(`${registry.host}/team/app`), {
      timing: { ...timing, sleep },
    });
    await storeReferrer(racing, signature);
    expect(digests(await store.listReferrers(subject.digest))).toEqual([
      sbom.manifest.descriptor.digest,
      signature.manifest.descriptor.digest,
    ]);
  });

  test('a tag that others overwrite each time ends in an error', async () => {
    registry.misbehaviours.push(({ method, url }, response) => {
      if (method !== 'PUT' || !url.pathname.endsWith(referrersTag(subject.digest))) return false;
      response.writeHead(201).end();
      return true;
    });
    await expect(storeReferrer(store, signature)).rejects.toMatchObject({ code: 'STATE_CONFLICT' });
    const puts = registry.requests.filter(
      ({ method, url }) => method === 'PUT' && url.pathname.includes('sha256-'),
    );
    expect(puts).toHaveLength(MAX_REFERRERS_TAG_ATTEMPTS);
  });

  test('an image under the reserved tag is not taken for a list, nor overwritten', async () => {
    const { descriptor, bytes } = image.manifest;
    registry.manifests.set(tagKey, { mediaType: descriptor.mediaType, bytes });
    await expect(storeReferrer(store, signature)).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
    expect(registry.manifests.get(tagKey)?.bytes).toBe(bytes);
  });

  test('a page for people is not a list', async () => {
    await push();
    registry.misbehaviours.push(({ url }, response) => {
      if (!url.pathname.includes('/referrers/')) return false;
      response.writeHead(200, { 'content-type': 'text/html' }).end('<html>');
      return true;
    });
    expect(await store.listReferrers(subject.digest)).toHaveLength(2);
  });
});

const skipReason = dockerRegistrySkipReason();
test.skipIf(skipReason !== undefined)(
  `docker-registry keeps the list under the tag (${skipReason ?? ''})`,
  async () => {
    const real = await startDockerRegistry();
    try {
      store = openRegistry(parseReference(`${real.host}/team/app:v1`));
      await push();
      expect(await store.listReferrers(subject.digest)).toHaveLength(2);
      expect(digests(await store.listReferrers(subject.digest, SBOM))).toEqual([
        sbom.manifest.descriptor.digest,
      ]);
      expect((await store.readManifest()).descriptor).toEqual(subject);
    } finally {
      await real.stop();
    }
  },
);
