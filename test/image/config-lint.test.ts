import { describe, expect, test } from 'vitest';
import { lintConfig, lintImage, requireNoLeaks } from '#src/image/config-lint.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { parseConfig } from '#src/oci/config.ts';
import { encodeImageDocument } from '#src/oci/document.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { PUBLIC_IMAGES } from '../vectors/public-image-configs.ts';
import { realLayer, storeRealImage } from './real-image.ts';

/** Joined here, so that no scanner takes this file for a leak. */
const TOKEN = ['ghp', 'aB3'.repeat(12)].join('_');

const configWith = (fields: object) =>
  parseConfig(
    Buffer.from(
      JSON.stringify({
        os: 'linux',
        architecture: 'amd64',
        rootfs: { type: 'layers', diff_ids: [] },
        ...fields,
      }),
    ),
  );

describe('a config', () => {
  test.each(Object.entries(PUBLIC_IMAGES))('like that of %s is clean', (_name, fields) => {
    expect(lintConfig(configWith(fields))).toEqual([]);
  });

  test.each<[string, string | undefined, object]>([
    ['Env', 'DB_PASSWORD', { config: { Env: ['PATH=/bin', 'DB_PASSWORD=hunter2'] } }],
    ['Env', 'DATABASE_URL', { config: { Env: ['DATABASE_URL=postgres://app:hunter2@db/app'] } }],
    ['Labels', 'com.acme.token', { config: { Labels: { 'com.acme.token': 'hunter2' } } }],
    ['Cmd', '--password', { config: { Cmd: ['app', '--password=hunter2'] } }],
    ['Entrypoint', '--api-key', { config: { Entrypoint: ['app', '--api-key', 'hunter2'] } }],
    [
      'Healthcheck',
      undefined,
      { config: { Healthcheck: { Test: ['CMD', 'curl', '-u', 'me:hunter2', 'x'] } } },
    ],
    ['OnBuild', 'NPM_TOKEN', { config: { OnBuild: ['ENV NPM_TOKEN=hunter2'] } }],
    ['history 1', 'TOKEN', { history: [{}, { created_by: 'RUN |1 TOKEN=hunter2 /bin/sh -c make' }] }],
    ['history 0', 'PASSWORD', { history: [{ comment: 'built with PASSWORD=hunter2' }] }],
    ['container_config.Env', 'API_KEY', { container_config: { Env: ['API_KEY=hunter2'] } }],
    ['comment', 'SECRET', { comment: 'SECRET=hunter2' }],
    [
      'moby.buildkit.buildinfo.v1',
      'build-arg:NPM_TOKEN',
      {
        'moby.buildkit.buildinfo.v1': Buffer.from('{"attrs":{"build-arg:NPM_TOKEN":"hunter2"}}').toString(
          'base64',
        ),
      },
    ],
    ['Env', undefined, { config: { Env: [TOKEN] } }],
    ['Env', undefined, { config: { Env: [`${TOKEN}=x`] } }],
    ['Env', 'DB_PASSWORD', { config: { Env: ['DB_PASSWORD=$hunter2$'] } }],
    ['Env', 'DB_PASSWORD', { config: { Env: ['DB_PASSWORD=/hunter2'] } }],
    ['Env', 'DB_PASSWORD', { config: { Env: ['DB_PASSWORD=id=hunter2'] } }],
    ['config.Labels', undefined, { config: { Labels: { [TOKEN]: 'x' } } }],
    ['config', 'User', { config: { User: TOKEN } }],
    ['config', 'WorkingDir', { config: { WorkingDir: `/${TOKEN}` } }],
    ['config.Volumes', undefined, { config: { Volumes: { [`/${TOKEN}`]: {} } } }],
    ['config.Healthcheck', 'note', { config: { Healthcheck: { Test: ['NONE'], note: TOKEN } } }],
    ['config', 'Hostname', { config: { Hostname: TOKEN } }],
    ['Shell', '--password', { config: { Shell: ['sh', '--password=hunter2'] } }],
    ['field', 'author', { author: TOKEN }],
    ['field', 'password', { password: 'hunter2' }],
    ['com_acme.build', 'api_key', { com_acme: { build: { api_key: 'hunter2' } } }],
    ['com_acme', undefined, { com_acme: ['x', TOKEN] }],
    ['history 0', undefined, { history: [{ author: TOKEN }] }],
    ['history.0', 'com.acme.token', { history: [{ 'com.acme.token': 'hunter2' }] }],
  ])('shows a secret in %s %s', (field, name, fields) => {
    const found = lintConfig(configWith(fields));
    expect(found).toMatchObject([{ field, ...(name === undefined ? {} : { name }) }]);
    for (const secret of ['hunter2', TOKEN]) expect(JSON.stringify(found)).not.toContain(secret);
  });

  test.each([
    'DB_PASSWORD=$DB_PASSWORD',
    'DB_PASSWORD=${DB_PASSWORD:-}',
    'DB_PASSWORD=/run/secrets/db',
    'DB_PASSWORD=changeme',
  ])('with %s is clean', (entry) => {
    expect(lintConfig(configWith({ config: { Env: [entry] } }))).toEqual([]);
  });

  test('with empty and null fields is clean', () => {
    const config = { Env: null, Cmd: [], Labels: null, Healthcheck: null, OnBuild: null };
    expect(lintConfig(configWith({ config, history: null }))).toEqual([]);
    expect(lintConfig(configWith({ config: null }))).toEqual([]);
    expect(lintConfig(configWith({ config: { Env: ['NO_EQUALS', '=x', 'PASSWORD='] } }))).toEqual([]);
  });
});

describe('an image', () => {
  async function graphWith(config: object, annotations: Record<string, string> = {}) {
    const store = createMemoryStore();
    const layers = [await realLayer(MEDIA_TYPE.ociLayer)];
    await storeRealImage(store, layers, { tag: 'v1', config: { ...config }, manifest: { annotations } });
    return readImageGraph(store, 'v1');
  }

  test('is looked at with its annotations, and the message names the place but no value', async () => {
    const graph = await graphWith(
      { config: { Env: ['DB_PASSWORD=hunter2'] } },
      { 'acme.api-key': 'hunter2' },
    );
    const leaks = lintImage(graph, false);
    expect(leaks.map(({ where, field, name }) => [where, field, name])).toEqual([
      ['linux/amd64', 'Env', 'DB_PASSWORD'],
      ['linux/amd64', 'annotation', 'acme.api-key'],
    ]);
    expect(() => requireNoLeaks(leaks)).toThrow(
      expect.objectContaining({
        code: 'INPUT_SECRET_EXPOSED',
        message: expect.stringMatching(/linux\/amd64 Env DB_PASSWORD .*annotation acme\.api-key/) as string,
        hint: expect.not.stringMatching(/scrub-history/) as string,
      }),
    );
    expect(JSON.stringify(leaks)).not.toContain('hunter2');
  });

  test.each<[string, Record<string, unknown>]>([
    ['artifactType', { artifactType: TOKEN }],
    ['a field that nobody knows', { 'com.acme.password': 'hunter2' }],
    ['an annotation', { annotations: { note: TOKEN } }],
  ])('is looked at with %s of its manifest', async (_what, manifest) => {
    const store = createMemoryStore();
    await storeRealImage(store, [await realLayer(MEDIA_TYPE.ociLayer)], { tag: 'v1', manifest });
    expect(lintImage(await readImageGraph(store, 'v1'), false)).toMatchObject([{ where: 'linux/amd64' }]);
  });

  test.each<[string, 'layer' | 'entry' | 'index', object]>([
    ['an annotation of a layer', 'layer', { annotations: { note: TOKEN } }],
    ['an unknown field of a layer', 'layer', { 'com.acme.token': 'hunter2' }],
    ['an annotation of an entry', 'entry', { annotations: { note: TOKEN } }],
    ['an annotation of the index', 'index', { annotations: { 'acme.api-key': 'hunter2' } }],
    ['an unknown field of the index', 'index', { build: { password: 'hunter2' } }],
  ])('is looked at with %s', async (_what, place, fields) => {
    const store = createMemoryStore();
    const layer = await realLayer(MEDIA_TYPE.ociLayer);
    const shown = place === 'layer' ? { ...layer, descriptor: { ...layer.descriptor, ...fields } } : layer;
    const image = await storeRealImage(store, [shown], { isChild: true });
    const index = {
      schemaVersion: 2 as const,
      mediaType: MEDIA_TYPE.ociIndex,
      manifests: [place === 'entry' ? { ...image.descriptor, ...fields } : image.descriptor],
      ...(place === 'index' ? fields : {}),
    };
    await store.writeManifest(encodeImageDocument(index), 'v1');
    const leaks = lintImage(await readImageGraph(store, 'v1'), false);
    expect(leaks).toMatchObject([{ where: place === 'layer' ? 'linux/amd64' : 'index' }]);
  });

  test('with a secret in its history is clean once that is empty', async () => {
    const graph = await graphWith({
      history: [{ created_by: 'RUN |1 TOKEN=hunter2 /bin/sh -c make' }],
      container_config: { Cmd: ['|1 TOKEN=hunter2 /bin/sh -c make'] },
    });
    const leaks = lintImage(graph, false);
    expect(() => requireNoLeaks(leaks)).toThrow(
      expect.objectContaining({ hint: expect.stringMatching(/--scrub-history/) as string }),
    );
    expect(lintImage(graph, true)).toEqual([]);
    expect(() => requireNoLeaks([])).not.toThrow();
  });

  test('with many gives a message that can be read', async () => {
    const Env = Array.from({ length: 500 }, (_, at) => `PASSWORD_${at}_TOKEN=hunter2`);
    const leaks = lintImage(await graphWith({ config: { Env } }), false);
    expect(leaks).toHaveLength(500);
    expect(() => requireNoLeaks(leaks)).toThrow(/and 490 more$/);
  });
});
