import { describe, expect, test } from 'vitest';
import { lintConfig, lintImage, requireNoLeaks } from '#src/image/config-lint.ts';
import { readImageGraph } from '#src/image/image-graph.ts';
import { parseConfig } from '#src/oci/config.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { PUBLIC_IMAGES } from '../vectors/public-image-configs.ts';
import { realLayer, storeRealImage } from './real-image.ts';

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
  ])('shows a secret in %s %s', (field, name, fields) => {
    const found = lintConfig(configWith(fields));
    expect(found).toMatchObject([{ field, ...(name === undefined ? {} : { name }) }]);
    expect(JSON.stringify(found)).not.toContain('hunter2');
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
