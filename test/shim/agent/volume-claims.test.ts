import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MAX_CONFIG_BYTES } from '#src/base/limits.ts';
import { chainIds } from '#src/oci/chain-id.ts';
import { digestOf } from '#src/oci/digest.ts';
import { VolumeClaims, volumeClaim } from '../../../shim/agent/volume-claims.ts';
import { FakeContentStore, MANIFEST_LABELS } from '../../fakes/content-store.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const DIFF_IDS = [digestOf('base'), digestOf('top')];
const CHAIN = chainIds(DIFF_IDS).at(-1)!;
const rootfs = { type: 'layers', diff_ids: DIFF_IDS };
const Volumes = { '/app': {} };

describe('a config', () => {
  test('with volumes claims its chain, without them none', () => {
    expect(volumeClaim({ config: { Volumes }, rootfs })).toBe(CHAIN);
    for (const config of [{}, { Volumes: {} }, { Volumes: null }, null, 'text']) {
      expect(volumeClaim({ config, rootfs })).toBe('none');
    }
    expect(volumeClaim({ rootfs })).toBe('none');
    expect(volumeClaim([])).toBe('none');
  });

  test.each([
    [{ CONFIG: { volumeS: Volumes }, RootFS: { Diff_IDs: DIFF_IDS } }],
    [{ config: { volumeſ: Volumes }, rootfs }],
    [{ config: {}, Config: { Volumes }, rootfs }],
    [{ config: { Volumes }, Config: {}, rootfs }],
    [{ config: { Volumes }, rootfs: { diff_ids: [digestOf('junk')] }, ROOTFS: rootfs }],
  ])('%j is read as Go reads it', (config) => {
    expect(volumeClaim(config)).toBe(CHAIN);
  });
});

describe('the images of a node', () => {
  const NAMESPACE = 'k8s.io';
  const directory = temporaryDirectory();
  let store: FakeContentStore;

  beforeEach(async () => {
    store = await FakeContentStore.start(join(directory(), 'containerd.sock'));
  });
  afterEach(() => store.close());

  /** @param behind put into the manifest behind its config */
  function storeImage(config: string, size = config.length, behind = '') {
    store.add(NAMESPACE, Buffer.from(config));
    const described = JSON.stringify({ digest: digestOf(config), size });
    const manifest = Buffer.from(`{"config":${described},${behind}"layers":[]}`);
    store.add(NAMESPACE, manifest, MANIFEST_LABELS);
    return digestOf(manifest);
  }

  test('are found by the chain that they claim', async () => {
    storeImage(JSON.stringify({ rootfs }));
    const config = JSON.stringify({ config: { Volumes }, rootfs });
    const manifest = storeImage(config);
    const claims = new VolumeClaims(store.connection);
    expect(await claims.on(NAMESPACE, CHAIN)).toEqual([{ manifest, config: digestOf(config) }]);
    expect(await claims.on(NAMESPACE, digestOf('other'))).toEqual([]);
    expect(await claims.on('default', CHAIN)).toEqual([]);
  });

  test.each([
    [
      'a config',
      `{"config":{"Volumes":{"/a":{}}},"config":{},"rootfs":${JSON.stringify(rootfs)}}`,
      undefined,
    ],
    ['a manifest', JSON.stringify({ config: { Volumes }, rootfs }), '"config":{},'],
  ])(
    'count for every chain when keys of %s stand twice, which Go lays over each other',
    async (_, config, again) => {
      const manifest = storeImage(config, config.length, again);
      expect(await new VolumeClaims(store.connection).on(NAMESPACE, digestOf('other'))).toEqual([
        { manifest, config: undefined },
      ]);
    },
  );

  test('count for every chain when their config has a digest of another kind, and for none without a config', async () => {
    const other = Buffer.from(`{"config":{"digest":"sha512:${'0'.repeat(128)}"},"layers":[]}`);
    store.add(NAMESPACE, other, MANIFEST_LABELS);
    store.add(NAMESPACE, Buffer.from('{"manifests":[]}'), MANIFEST_LABELS);
    expect(await new VolumeClaims(store.connection).on(NAMESPACE, CHAIN)).toEqual([
      { manifest: digestOf(other), config: undefined },
    ]);
  });

  test('count for every chain when their config is too large to be read', async () => {
    const huge = storeImage('{}', MAX_CONFIG_BYTES + 1);
    expect(await new VolumeClaims(store.connection).on(NAMESPACE, CHAIN)).toEqual([
      { manifest: huge, config: undefined },
    ]);
  });
});
