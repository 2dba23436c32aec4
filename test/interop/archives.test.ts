// Archives of skopeo, buildah and podman read by us, and ours read by them.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { parseManifest } from '#src/oci/manifest.ts';
import { copyImage } from '#src/store/copy.ts';
import { openDockerArchive } from '#src/store/docker-archive.ts';
import { openLayout } from '#src/store/layout.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { openOciArchive } from '#src/store/oci-archive.ts';
import { peerTool, peerToolsSkipReason } from '../../lab/peer-tools.ts';
import { fakeStreams } from '../fakes/archive-options.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const directory = temporaryDirectory();
const at = (name: string): string => join(directory(), name);
const SKOPEO = '/usr/bin/skopeo';
const peerReason = peerToolsSkipReason('buildah', 'podman');

function run(program: 'skopeo' | 'buildah' | 'podman', args: readonly string[]): string {
  return execFileSync(program === 'skopeo' ? SKOPEO : peerTool(program), args, {
    cwd: directory(),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

const open = {
  oci: (file: string) => openOciArchive(file, fakeStreams(directory()).options),
  docker: (file: string) => openDockerArchive(file, fakeStreams(directory()).options),
};

/** Two gzip'd layers in a layout; gives what is in them. */
async function makeSource() {
  const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip), await realLayer(MEDIA_TYPE.ociLayerGzip)];
  const manifest = await storeRealImage(openLayout(at('source')), layers, { tag: 'v1' });
  return {
    manifest,
    diffIds: layers.map(({ diffId }) => diffId),
    digests: layers.map(({ descriptor }) => descriptor.digest),
  };
}

async function layerDigests(archive: ReturnType<typeof open.docker>, reference?: string): Promise<string[]> {
  const back = createMemoryStore();
  await copyImage(archive, back, { reference });
  await archive.discard();
  return parseManifest((await back.readManifest()).bytes).layers.map(({ digest }) => digest);
}

describe.skipIf(!existsSync(SKOPEO))('skopeo (needs skopeo)', () => {
  test('reads our archive, by file and with a tag', async () => {
    const { manifest } = await makeSource();
    const archive = open.oci(at('ours.tar'));
    await copyImage(openLayout(at('source')), archive, { tag: 'v2' });
    await archive.finish();
    for (const reference of ['', ':v2']) {
      const shown = run('skopeo', ['inspect', '--raw', `oci-archive:${at('ours.tar')}${reference}`]);
      expect(shown).toBe(Buffer.from(manifest.bytes).toString());
    }
    run('skopeo', [
      'copy',
      '--quiet',
      '--preserve-digests',
      `oci-archive:${at('ours.tar')}`,
      `oci:${at('theirs')}:v1`,
    ]);
    expect((await openLayout(at('theirs')).readManifest()).descriptor.digest).toBe(
      manifest.descriptor.digest,
    );
  });

  test('writes archives that we read', async () => {
    const { digests, diffIds } = await makeSource();
    const source = `oci:${at('source')}:v1`;
    run('skopeo', ['copy', '--quiet', '--preserve-digests', source, `oci-archive:${at('oci.tar')}:v9`]);
    expect(await layerDigests(open.oci(at('oci.tar')), 'v9')).toEqual(digests);
    run('skopeo', ['copy', '--quiet', source, `docker-archive:${at('docker.tar')}:acme/web:1.0`]);
    expect(await layerDigests(open.docker(at('docker.tar')), 'acme/web:1.0')).toEqual(diffIds);
    await writeFile(at('docker.tar.gz'), gzipSync(readFileSync(at('docker.tar'))));
    expect(await layerDigests(open.docker(at('docker.tar.gz')))).toEqual(diffIds);
  });
});

describe.skipIf(peerReason !== undefined)(`buildah and podman ${peerReason ?? ''}`, () => {
  test('write archives that we read: one image, several, both formats', async () => {
    const { diffIds } = await makeSource();
    const storage = ['--root', at('storage'), '--runroot', at('run'), '--storage-driver', 'vfs'];
    // A relative path: podman makes a name of it, and names are lower case.
    run('podman', [...storage, 'pull', '--quiet', 'oci:source:v1']);
    const [id = ''] = run('podman', [...storage, 'images', '--quiet', '--no-trunc'])
      .trim()
      .split('\n');
    run('podman', [...storage, 'tag', id, 'acme/web:1.0']);
    run('podman', [
      ...storage,
      'save',
      '--quiet',
      '--format',
      'oci-archive',
      '-o',
      at('p-oci.tar'),
      'acme/web:1.0',
    ]);
    expect(await layerDigests(open.oci(at('p-oci.tar')))).toHaveLength(2);
    run('podman', [...storage, 'save', '--quiet', '-o', at('p-docker.tar'), 'acme/web:1.0']);
    expect(await layerDigests(open.docker(at('p-docker.tar')), 'localhost/acme/web:1.0')).toEqual(diffIds);
    run('buildah', [...storage, 'push', '--quiet', id, `oci-archive:${at('b-oci.tar')}:v1`]);
    expect(await layerDigests(open.oci(at('b-oci.tar')), 'v1')).toHaveLength(2);
    run('buildah', [...storage, 'push', '--quiet', id, `docker-archive:${at('b-docker.tar')}:acme/web:2.0`]);
    expect(await layerDigests(open.docker(at('b-docker.tar')), 'acme/web:2.0')).toEqual(diffIds);
    const container = run('buildah', [...storage, 'from', 'scratch']).trim();
    run('buildah', [...storage, 'commit', '--quiet', container, 'acme/other:1.0']);
    const several = ['acme/web:1.0', 'acme/other:1.0'];
    run('podman', [...storage, 'save', '--quiet', '-m', '-o', at('several.tar'), ...several]);
    expect(await layerDigests(open.docker(at('several.tar')), 'localhost/acme/web:1.0')).toEqual(diffIds);
    await expect(open.docker(at('several.tar')).readManifest()).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
      hint: expect.stringContaining('localhost/acme/other:1.0') as string,
    });
  });

  test('podman loads our archive', async () => {
    const { manifest } = await makeSource();
    const archive = open.oci(at('ours.tar'));
    await copyImage(openLayout(at('source')), archive, { tag: 'acme/web:3.0' });
    await archive.finish();
    const storage = ['--root', at('storage'), '--runroot', at('run'), '--storage-driver', 'vfs'];
    run('podman', [...storage, 'load', '--quiet', '-i', at('ours.tar')]);
    const { config } = parseManifest(manifest.bytes);
    expect(run('podman', [...storage, 'images', '--quiet', '--no-trunc'])).toContain(config.digest);
  });
});
