/** The options of `latchkey encrypt` that choose layers and platforms, and those about what stays readable. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { platformImages, platformName, readImageGraph } from '#src/image/image-graph.ts';
import { MEDIA_TYPE, isEncrypted } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { copyImage } from '#src/store/copy.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { parseReference } from '#src/oci/reference.ts';
import { dockerRegistrySkipReason, startDockerRegistry } from '../../lab/docker-registry.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { storeAttestedImage } from '../fakes/attested-image.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const skipReason = dockerRegistrySkipReason();

interface Plan {
  readonly platforms: {
    platform: string;
    layers: { encrypted: boolean; reason: string; sizeBytes: number }[];
  }[];
  readonly artifacts: { action: string; attestation: boolean; contents: string }[];
  readonly leaks: { field: string; name?: string }[];
  readonly totals: { encryptedBytes: number; plainBytes: number };
  readonly notes: string[];
}

let directory: string;
const at = (name: string) => join(directory, name);

const latchkey = (...args: string[]) => runLatchkey(args, { directory });

const encrypt = (source: string, ...args: string[]) =>
  latchkey('encrypt', `oci:${source}:v1`, 'oci:out:v1', '--recipient', 'jwe:key.pub.pem', ...args);

async function planOf(source: string, ...args: string[]): Promise<Plan> {
  const { status, stdout, stderr } = await encrypt(source, '--dry-run', '--json', ...args);
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return JSON.parse(stdout) as Plan;
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-options-'));
  await latchkey('keygen', 'key');
  await storeAttestedImage(openLayout(at('attested')));
  const leaky = {
    config: { Env: ['DB_PASSWORD=hunter2'] },
    history: [{ created_by: 'RUN |1 NPM_TOKEN=hunter2 /bin/sh -c npm ci' }],
  };
  await storeRealImage(openLayout(at('leaky')), [await realLayer(MEDIA_TYPE.ociLayerGzip)], {
    tag: 'v1',
    config: leaky,
  });
  await storeRealImage(openLayout(at('history')), [await realLayer(MEDIA_TYPE.ociLayerGzip)], {
    tag: 'v1',
    config: { history: leaky.history },
  });
});

afterAll(() => rm(directory, { recursive: true, force: true }));

describe('wrong input gives one clear line and writes nothing', () => {
  test.each<[number, RegExp, string, string[]]>([
    [2, /attestations in clear.*SBOM, provenance of linux\/amd64.*--attestations drop/, 'attested', []],
    [2, /allowed choices are keep, drop, encrypt/, 'attested', ['--attestations', 'burn']],
    [
      2,
      /no platform windows\/amd64; it has linux\/amd64, linux\/arm64/,
      'attested',
      ['--platform', 'windows/amd64'],
    ],
    [2, /"linux" is not a platform; write os\/arch/, 'attested', ['--platform', 'linux']],
    [2, /--layer.*not a layer number/, 'attested', ['--layer', '1.5']],
    [2, /exclude each other/, 'attested', ['--base', 'oci:leaky:v1', '--all-layers']],
    [66, /does not exist/, 'attested', ['--base', 'oci:nowhere:v1', '--attestations', 'drop']],
    [
      65,
      /^latchkey: INPUT_SECRET_EXPOSED: .*linux\/amd64 Env DB_PASSWORD .*history 0 NPM_TOKEN \(a build arg/,
      'leaky',
      [],
    ],
    [65, /Env DB_PASSWORD/, 'leaky', ['--scrub-history']],
    [65, /--scrub-history/, 'history', []],
  ])('%i %s', async (status, message, source, args) => {
    const outcome = await encrypt(source, '--quiet', ...args);
    expect(outcome.stderr).toMatch(message);
    expect(outcome.stderr).toMatch(/^latchkey: [A-Z_]+: [^\n]+\n$/);
    expect(outcome.stderr).not.toContain('hunter2');
    expect(outcome).toMatchObject({ status, stdout: '' });
    expect(existsSync(at('out/index.json'))).toBe(false);
  });
});

describe('--dry-run', () => {
  test('shows layers, attestations, leaks and totals, and fails for none of them', async () => {
    const attested = await planOf('attested');
    expect(attested.artifacts).toMatchObject([
      { action: 'undecided', attestation: true, contents: 'SBOM, provenance of linux/amd64' },
      { action: 'undecided' },
    ]);
    expect(attested.notes).toContainEqual(expect.stringMatching(/needs --attestations/));
    expect(attested.totals.encryptedBytes).toBe(
      attested.platforms.reduce((sum, { layers }) => sum + (layers[0]?.sizeBytes ?? 0), 0),
    );
    const leaky = await planOf('leaky');
    expect(leaky.leaks).toMatchObject([{ field: 'Env', name: 'DB_PASSWORD' }, { field: 'history 0' }]);
    expect(JSON.stringify(leaky)).not.toContain('hunter2');
    expect((await planOf('leaky', '--scrub-history')).leaks).toHaveLength(1);
    expect(existsSync(at('out'))).toBe(false);
  });

  test('shows tables to people', async () => {
    const { stdout } = await encrypt('attested', '--dry-run', '--attestations', 'encrypt');
    expect(stdout).toMatch(/^linux\/amd64\nLAYER +SIZE +PLAN +WHY\n0 .* encrypt +all layers/);
    expect(stdout).toMatch(/\nattestation +encrypt +SBOM, provenance of linux\/amd64\n/);
    expect(stdout).toMatch(/\nencrypted +[\d.]+ KiB\nplain +0 B\n$/);
    const leaky = await encrypt('leaky', '--dry-run');
    expect(leaky.stdout).toMatch(/LOOKS LIKE A SECRET.*\n.*DB_PASSWORD/);
  });
});

describe('what was chosen is done', () => {
  const readBack = async (name: string) => readImageGraph(openLayout(at(name)), 'v1');
  const into = (name: string, source: string, ...args: string[]) =>
    latchkey('encrypt', `oci:${source}:v1`, `oci:${name}:v1`, '--recipient', 'jwe:key.pub.pem', ...args);

  test('--platform leaves the others out, with their attestations', async () => {
    const args = ['--platform', 'linux/arm64', '--attestations', 'keep'];
    expect(await into('one', 'attested', ...args, '--json')).toMatchObject({ status: 0, stderr: '' });
    const graph = await readBack('one');
    expect(platformImages(graph).map(platformName)).toEqual(['linux/arm64']);
    expect(graph.nodes.map(({ kind }) => kind).sort()).toEqual(['artifact', 'image', 'index']);
  });

  test('--attestations encrypt encrypts them, and decrypt brings them back', async () => {
    expect((await into('sealed', 'attested', '--attestations', 'encrypt')).status).toBe(0);
    const documents = (await readBack('sealed')).nodes.flatMap((node) =>
      node.kind === 'artifact' ? node.manifest.layers : [],
    );
    expect(documents.every(({ mediaType }) => isEncrypted(mediaType))).toBe(true);
    expect((await latchkey('decrypt', 'oci:sealed:v1', 'oci:opened:v1', '--key', 'key.pem')).status).toBe(0);
    const digests = async (name: string) =>
      (await readBack(name)).nodes.flatMap((node) =>
        node.kind === 'artifact' ? node.blob.descriptor.digest : [],
      );
    expect(await digests('opened')).toEqual(await digests('attested'));
  });

  test('--allow-config-leak goes on and says so; --scrub-history needs no leave', async () => {
    const allowed = await into('allowed', 'leaky', '--allow-config-leak');
    expect(allowed.status).toBe(0);
    expect(allowed.stderr).toMatch(/note: stays readable: linux\/amd64 Env DB_PASSWORD/);
    expect((await into('scrubbed', 'history', '--scrub-history')).status).toBe(0);
    const [image] = platformImages(await readBack('scrubbed'));
    expect(image?.config.history).toEqual([{}]);
  });
});

describe.skipIf(skipReason !== undefined)(`with a registry (${skipReason ?? 'docker-registry'})`, () => {
  test('the noted base is found by itself, unless it cannot be read', async () => {
    const registry = await startDockerRegistry();
    const base = [await realLayer(MEDIA_TYPE.ociLayerGzip)];
    const name = `${registry.host}/base:1`;
    const annotations = { 'org.opencontainers.image.base.name': name };
    const layers = [...base, await realLayer(MEDIA_TYPE.ociLayerGzip)];
    await storeRealImage(openLayout(at('noted')), layers, { tag: 'v1', manifest: { annotations } });
    const encrypted = (plan: Plan) => plan.platforms[0]!.layers.map((layer) => layer.encrypted);
    try {
      const lost = await planOf('noted');
      expect(encrypted(lost)).toEqual([true, true]);
      expect(lost.notes).toEqual([expect.stringMatching(/cannot be read by everybody.*encrypted too/)]);
      await storeRealImage(openLayout(at('base')), base, { tag: 'v1' });
      await copyImage(openLayout(at('base')), openRegistry(parseReference(name)), {
        reference: 'v1',
        tag: '1',
      });
      const found = await planOf('noted');
      expect(encrypted(found)).toEqual([false, true]);
      expect(found.platforms[0]!.layers[0]?.reason).toBe(`shared with ${name}`);
      expect(found.notes).toEqual([expect.stringMatching(/built on .* stay plain/)]);
      expect(encrypted(await planOf('noted', '--all-layers'))).toEqual([true, true]);
    } finally {
      await registry.stop();
    }
  });

  test.each(['keep', 'encrypt'])('attestations are pushed with --attestations %s', async (choice) => {
    const registry = await startDockerRegistry();
    try {
      const image = `${registry.host}/attested:v1`;
      const pushed = await latchkey(
        ...['encrypt', 'oci:attested:v1', `docker://${image}`, '--recipient', 'jwe:key.pub.pem'],
        ...['--attestations', choice, '--json'],
      );
      expect(pushed).toMatchObject({ status: 0, stderr: '' });
      const pulled = await latchkey(
        'decrypt',
        image,
        `oci:pulled-${choice}:v1`,
        '--key',
        'key.pem',
        '--json',
      );
      expect(pulled).toMatchObject({ status: 0, stderr: '' });
      const graph = await readImageGraph(openLayout(at(`pulled-${choice}`)), 'v1');
      expect(graph.nodes.filter(({ kind }) => kind === 'artifact')).toHaveLength(2);
    } finally {
      await registry.stop();
    }
  });
});
