import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { digestHex, digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { parseManifest } from '#src/oci/manifest.ts';
import { copyImage } from '#src/store/copy.ts';
import { openDockerArchive } from '#src/store/docker-archive.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { fakeStreams } from '../fakes/archive-options.ts';
import { bytesOf, fakeImage, type FakeImage } from '../fakes/image.ts';
import { fakeTar, type FakeMember } from '../fakes/tar.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const path = (): string => join(directory(), 'saved.tar');

async function open(members: readonly FakeMember[], pack = (tar: Buffer): Buffer => tar) {
  await writeFile(path(), pack(await fakeTar(members)));
  return openDockerArchive(path(), fakeStreams(directory()).options);
}

function configOf(image: FakeImage) {
  const { config } = parseManifest(image.manifest.bytes);
  return { digest: config.digest, bytes: image.blobs.get(config.digest)! };
}

/** As Docker before version 25 saves images: a directory for each layer. */
function legacy(images: readonly (readonly [FakeImage, readonly string[] | null])[]): FakeMember[] {
  const members = new Map<string, FakeMember>();
  const list = images.map(([image, RepoTags]) => {
    const config = configOf(image);
    const configName = `${digestHex(config.digest)}.json`;
    members.set(configName, { name: configName, content: config.bytes });
    const Layers = image.layers.map((layer) => {
      const id = digestHex(digestOf(`id of ${layer.digest}`));
      members.set(id, { name: `${id}/`, type: 'directory' });
      members.set(`${id}.v`, { name: `${id}/VERSION`, content: '1.0' });
      members.set(`${id}.t`, { name: `${id}/layer.tar`, content: image.blobs.get(layer.digest)! });
      return `${id}/layer.tar`;
    });
    return { Config: configName, RepoTags, Layers };
  });
  return [...members.values(), { name: 'manifest.json', content: JSON.stringify(list) }];
}

async function expectImage(
  members: readonly FakeMember[],
  image: FakeImage,
  reference?: string,
): Promise<void> {
  const archive = await open(members);
  const back = createMemoryStore();
  await copyImage(archive, back, { reference });
  await archive.discard();
  const { config, layers } = parseManifest((await back.readManifest()).bytes);
  expect(config).toMatchObject({ mediaType: MEDIA_TYPE.ociConfig, digest: configOf(image).digest });
  expect(layers).toEqual(image.layers);
  for (const layer of layers) {
    expect((await bytesOf(back.openBlob(layer))).equals(image.blobs.get(layer.digest)!)).toBe(true);
  }
}

const [web, db] = [fakeImage([300_000, 512]), fakeImage([1000])];

describe('docker save', () => {
  test('of old Docker', async () => {
    await expectImage(legacy([[web, ['acme/web:1.0']]]), web);
  });

  test('of old Docker, where an equal layer is a link', async () => {
    const [layer] = web.layers;
    const { digest, bytes } = configOf(web);
    const twice = {
      ...JSON.parse(Buffer.from(bytes).toString()),
      rootfs: { type: 'layers', diff_ids: [layer!.digest, layer!.digest] },
    } as unknown;
    const config = Buffer.from(JSON.stringify(twice));
    const list = [{ Config: 'c.json', RepoTags: null, Layers: ['a/layer.tar', 'b/layer.tar'] }];
    const archive = await open([
      { name: 'a/layer.tar', content: web.blobs.get(layer!.digest)! },
      { name: 'b/layer.tar', type: 'symlink', linkname: '../a/layer.tar' },
      { name: 'c.json', content: config },
      { name: 'manifest.json', content: JSON.stringify(list) },
    ]);
    const { layers } = parseManifest((await archive.readManifest()).bytes);
    expect(layers.map(({ digest }) => digest)).toEqual([layer!.digest, layer!.digest]);
    expect(digest).not.toBe(digestOf(config));
  });

  test('of new Docker, where blobs are in an image layout', async () => {
    const config = configOf(web);
    const named = [...web.blobs].map(([digest, content]) => ({
      name: `blobs/sha256/${digestHex(digest)}`,
      content,
    }));
    const list = [
      {
        Config: `blobs/sha256/${digestHex(config.digest)}`,
        RepoTags: ['acme/web:1.0'],
        Layers: web.layers.map(({ digest }) => `blobs/sha256/${digestHex(digest)}`),
        LayerSources: {},
      },
    ];
    await expectImage(
      [
        { name: 'blobs/', type: 'directory' },
        ...named,
        { name: 'index.json', content: '{}' },
        { name: 'manifest.json', content: JSON.stringify(list) },
        { name: 'oci-layout', content: '{}' },
      ],
      web,
    );
  });

  test.each([
    ['gzip', gzipSync, MEDIA_TYPE.ociLayerGzip],
    ['zstd', zstdCompressSync, MEDIA_TYPE.ociLayerZstd],
  ])('with layers compressed by %s', async (_, compress, mediaType) => {
    const [layer] = db.layers;
    const packed = compress(db.blobs.get(layer!.digest)!);
    for (const name of ['layer.tar', `blobs/sha256/${digestHex(digestOf(packed))}`]) {
      const archive = await open([
        { name, content: packed },
        { name: 'c.json', content: configOf(db).bytes },
        { name: 'manifest.json', content: JSON.stringify([{ Config: 'c.json', Layers: [name] }]) },
      ]);
      const [found] = parseManifest((await archive.readManifest()).bytes).layers;
      expect(found).toEqual({ mediaType, digest: digestOf(packed), size: packed.length });
      expect((await bytesOf(archive.openBlob(found!))).equals(packed)).toBe(true);
    }
  });

  test('of several images: chosen by name, by number, and never guessed', async () => {
    const both = legacy([
      [web, ['acme/web:1.0', 'registry.example.com/web:latest']],
      [db, ['postgres:16']],
      [fakeImage(), null],
    ]);
    await expectImage(both, web, 'acme/web:1.0');
    await expectImage(both, web, 'registry.example.com/web');
    await expectImage(both, db, 'docker.io/library/postgres:16');
    await expectImage(both, db, '@1');
    const hint = expect.stringContaining(
      ':acme/web:1.0 :registry.example.com/web:latest :postgres:16 :@2',
    ) as string;
    for (const reference of [undefined, 'acme/web:2.0', '@3']) {
      await expect((await open(both)).readManifest(reference)).rejects.toMatchObject({
        code: 'STATE_NOT_FOUND',
        hint,
      });
    }
    await expectImage(
      legacy([
        [db, ['a:1']],
        [db, ['b:1']],
      ]),
      db,
    );
  });

  test('packed whole, and from a pipe', async () => {
    const tar = gzipSync(await fakeTar(legacy([[web, null]])));
    const archive = openDockerArchive('-', fakeStreams(directory(), tar).options);
    const { layers } = parseManifest((await archive.readManifest()).bytes);
    expect(layers).toEqual(web.layers);
    await archive.discard();
  });

  test('is read the same each time, also by digest', async () => {
    const archive = await open(legacy([[web, null]]));
    const first = await archive.readManifest();
    expect(await archive.readManifest(first.descriptor.digest)).toEqual(first);
    expect(await (await open(legacy([[web, null]]))).readManifest()).toEqual(first);
    expect(await archive.listReferrers(first.descriptor.digest)).toEqual([]);
  });

  test('is not written', async () => {
    const archive = await open(legacy([[web, null]]));
    const refused = {
      code: 'INPUT_REFERENCE_INVALID',
      hint: expect.stringContaining('oci-archive') as string,
    };
    await expect(copyImage(createMemoryStore(), archive)).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
    await expect(archive.writeManifest(web.manifest)).rejects.toMatchObject(refused);
    await expect(
      archive.writeBlob(web.layers[0]!, () => archive.openBlob(web.layers[0]!)),
    ).rejects.toMatchObject(refused);
  });
});

describe('a wrong archive', () => {
  const image = (changes: object = {}): FakeMember[] => [
    { name: 'l.tar', content: db.blobs.get(db.layers[0]!.digest)! },
    { name: 'c.json', content: configOf(db).bytes },
    { name: 'manifest.json', content: JSON.stringify([{ Config: 'c.json', Layers: ['l.tar'], ...changes }]) },
  ];

  test.each<[string, string, readonly FakeMember[]]>([
    ['without an image', 'STATE_NOT_FOUND', [{ name: 'manifest.json', content: '[]' }]],
    ['without a manifest', 'INPUT_NOT_AN_IMAGE', [{ name: 'etc/passwd', content: 'x' }]],
    ['before Docker 1.10', 'INPUT_NOT_AN_IMAGE', [{ name: 'repositories', content: '{}' }]],
    ['that is an OCI archive', 'INPUT_NOT_AN_IMAGE', [{ name: 'oci-layout', content: '{}' }]],
    ['with a manifest of nonsense', 'INPUT_MALFORMED', [{ name: 'manifest.json', content: '{"a":1}' }]],
    ['with a layer that is not there', 'INPUT_TRUNCATED', image({ Layers: ['other.tar'] })],
    ['with a layer outside', 'INPUT_TRUNCATED', image({ Layers: ['../../etc/passwd'] })],
    ['with a config that is not there', 'INPUT_TRUNCATED', image({ Config: '/etc/passwd' })],
    ['with a config that is none', 'INPUT_MALFORMED', image({ Config: 'l.tar' })],
    ['with fewer layers than its config says', 'INPUT_MALFORMED', image({ Layers: [] })],
    ['with more layers than its config says', 'INPUT_MALFORMED', image({ Layers: ['l.tar', 'l.tar'] })],
    [
      'with another config than its name says',
      'INPUT_DIGEST_MISMATCH',
      [
        ...image({ Config: `${'0'.repeat(64)}.json` }),
        { name: `${'0'.repeat(64)}.json`, content: configOf(db).bytes },
      ],
    ],
    [
      'with links in a circle',
      'INPUT_MALFORMED',
      [
        { name: 'l', type: 'symlink', linkname: 'm' },
        { name: 'm', type: 'symlink', linkname: 'l' },
        ...image({ Layers: ['l'] }),
      ],
    ],
    [
      'with too many layers',
      'INPUT_MALFORMED',
      image({ Layers: Array.from({ length: 1000 }, () => 'l.tar') }),
    ],
  ])('%s is %s', async (_, code, members) => {
    await expect((await open(members)).readManifest()).rejects.toMatchObject({ code });
  });

  test('with another layer than its config says never ends well', async () => {
    const archive = await open([{ name: 'l.tar', content: Buffer.alloc(1000) }, ...image().slice(1)]);
    const [layer] = parseManifest((await archive.readManifest()).bytes).layers;
    await expect(bytesOf(archive.openBlob(layer!))).rejects.toMatchObject({ code: 'INPUT_DIGEST_MISMATCH' });
  });
});
