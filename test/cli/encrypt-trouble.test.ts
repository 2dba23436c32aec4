/** `latchkey encrypt` while the disk fills up and while the registry dies, with the real ones. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { parseReference } from '#src/oci/reference.ts';
import { openRegistry } from '#src/registry/registry-store.ts';
import { openLayout } from '#src/store/layout.ts';
import { dockerRegistrySkipReason, startDockerRegistry } from '../../lab/docker-registry.ts';
import { TcpProxy } from '../../lab/tcp-proxy.ts';
import { mountSmallDisk } from '../fakes/small-disk.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');
const LAYERS = 6;
const LAYER_BYTES = 4 * 1024 * 1024;

let directory: string;
const disk = mountSmallDisk('8m');

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-trouble-'));
  const layers = await Promise.all(
    Array.from({ length: LAYERS }, () => realLayer(MEDIA_TYPE.ociLayerGzip, randomBytes(LAYER_BYTES))),
  );
  await storeRealImage(openLayout(join(directory, 'source')), layers, { tag: 'v1' });
  expect((await finish(latchkey('keygen', join(directory, 'key')))).status).toBe(0);
});
afterAll(async () => {
  disk?.remove();
  await rm(directory, { recursive: true, force: true });
});

function latchkey(...args: string[]): ReturnType<typeof spawn> {
  const env = { ...process.env, XDG_CACHE_HOME: join(directory, 'cache') };
  return spawn(process.execPath, [LATCHKEY, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
}

async function finish(
  child: ReturnType<typeof spawn>,
): Promise<{ status: number; stdout: string; stderr: string }> {
  if (child.stdout === null || child.stderr === null) throw new TypeError('both are pipes');
  const closed = once(child, 'close') as Promise<[number]>;
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  return { status, stdout, stderr };
}

function encryptTo(destination: string): ReturnType<typeof spawn> {
  const recipient = `jwe:${join(directory, 'key.pub.pem')}`;
  return latchkey(
    'encrypt',
    `oci:${join(directory, 'source')}:v1`,
    destination,
    '--recipient',
    recipient,
    '--json',
  );
}

describe.skipIf(disk === undefined)('a full disk (needs the right to mount a small one)', () => {
  test('is said in one line, leaves no image behind, and is over once there is room', async () => {
    const output = join(disk?.directory ?? '', 'out');
    const failed = await finish(encryptTo(`oci:${output}:v1`));
    expect(failed.status).toBe(74);
    expect(failed.stderr.trim().split('\n').at(-1)).toMatch(
      /^latchkey: STORAGE_FULL: the disk is full .* run the same command again$/,
    );
    await expect(openLayout(output).readManifest('v1')).rejects.toBeInstanceOf(LatchkeyError);
    disk?.grow('64m');
    expect((await finish(encryptTo(`oci:${output}:v1`))).status).toBe(0);
    await openLayout(output).readManifest('v1');
  });

  test('leaves no empty key that would be in the way once there is room', async () => {
    const full = mountSmallDisk('64k');
    if (full === undefined) throw new TypeError('the other disk could be mounted');
    try {
      await writeFile(join(full.directory, 'fill'), randomBytes(64 * 1024));
      const key = join(full.directory, 'key');
      expect((await finish(latchkey('keygen', key))).status).toBe(74);
      expect(await readdir(full.directory)).toEqual(['fill']);
      full.grow('1m');
      expect((await finish(latchkey('keygen', key))).status).toBe(0);
    } finally {
      full.remove();
    }
  });
});

describe.skipIf(dockerRegistrySkipReason() !== undefined)(
  `a registry that dies ${dockerRegistrySkipReason() ?? ''}`,
  () => {
    test('in the middle of a push is said in one line; a rerun sends what is missing, under the same keys', async () => {
      const registry = await startDockerRegistry();
      const line = await TcpProxy.start(registry.host);
      try {
        const image = `${line.address}/trouble:v1`;
        const isHeld = line.holdAt('PUT /v2/', 3);
        const outcome = finish(encryptTo(`docker://${image}`));
        // Some blobs have arrived, another has not.
        await isHeld;
        await blobsStored(registry.directory, 2);
        await registry.kill();
        line.change('closing');
        const failed = await outcome;
        expect([69, 75]).toContain(failed.status);
        expect(failed.stderr.trim().split('\n').at(-1)).toMatch(/^latchkey: NET_/);
        await registry.restart();
        line.change('passing');
        const resumed = await finish(encryptTo(`docker://${image}`));
        expect(resumed).toMatchObject({ status: 0 });
        expect(JSON.parse(resumed.stdout)).toMatchObject({ resumed: true });
        await openRegistry(parseReference(image)).readManifest('v1');
      } finally {
        line.close();
        await registry.stop();
      }
    });
  },
);

/** Waits until the registry's store holds that many whole blobs. */
async function blobsStored(registryDirectory: string, count: number): Promise<void> {
  const blobs = join(registryDirectory, 'storage/docker/registry/v2/blobs/sha256');
  for (;;) {
    const found = await readdir(blobs, { recursive: true }).catch(() => []);
    if (found.filter((path) => path.endsWith('/data')).length >= count) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
