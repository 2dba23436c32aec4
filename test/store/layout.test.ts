import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, readdir, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LAYOUT_LEFTOVER_AGE_MS } from '#src/base/limits.ts';
import { digestHex } from '#src/oci/digest.ts';
import { copyImage } from '#src/store/copy.ts';
import { withLayoutLock } from '#src/store/layout-lock.ts';
import { openLayout } from '#src/store/layout.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { bytesOf, fakeImage, fakeIndex, storeImage, streamOf } from '../fakes/image.ts';

let root: string;
let directory: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'latchkey-layout-'));
  directory = join(root, 'layout');
});
afterEach(() => rm(root, { recursive: true, force: true }));

function code(value: string): unknown {
  return expect.objectContaining({ code: value });
}

async function entries(): Promise<{ digest: string; annotations?: Record<string, string> }[]> {
  const index = JSON.parse(await readFile(join(directory, 'index.json'), 'utf8')) as { manifests: [] };
  return index.manifests;
}

describe('reading and writing', () => {
  test('an image goes in and comes out; a bare layout with one image needs no tag', async () => {
    const image = fakeImage([3_000_000, 0, 10]);
    await storeImage(openLayout(directory), image);
    const layout = openLayout(directory);
    expect((await layout.readManifest()).descriptor).toEqual(image.manifest.descriptor);
    for (const layer of image.layers) {
      expect((await bytesOf(layout.openBlob(layer))).equals(image.blobs.get(layer.digest)!)).toBe(true);
      expect(await readFile(layout.localPath!(layer.digest)!)).toEqual(
        Buffer.from(image.blobs.get(layer.digest)!),
      );
    }
    expect(JSON.parse(await readFile(join(directory, 'oci-layout'), 'utf8'))).toEqual({
      imageLayoutVersion: '1.0.0',
    });
  });

  test('children of an index get no entry; a digest reaches them all the same', async () => {
    const layout = openLayout(directory);
    const [amd64, arm64] = [fakeImage([10], 'amd64'), fakeImage([10], 'arm64')];
    await storeImage(layout, amd64, undefined, true);
    await storeImage(layout, arm64, undefined, true);
    const index = fakeIndex([amd64.manifest, arm64.manifest]);
    await layout.writeManifest(index, 'v1');
    expect(await entries()).toHaveLength(1);
    expect((await layout.readManifest()).descriptor.digest).toBe(index.descriptor.digest);
    const { digest } = arm64.manifest.descriptor;
    expect((await layout.readManifest(digest)).descriptor).toEqual(arm64.manifest.descriptor);
  });

  test('a tag moves, others stay, and an unknown one is told which there are', async () => {
    const layout = openLayout(directory);
    const [first, second] = [fakeImage(), fakeImage()];
    await storeImage(layout, first, 'v1');
    await storeImage(layout, second, 'v2');
    await storeImage(layout, second, 'v1');
    expect((await layout.readManifest('v1')).descriptor.digest).toBe(second.manifest.descriptor.digest);
    expect((await entries()).map((entry) => Object.values(entry.annotations ?? {}))).toEqual([
      ['v2'],
      ['v1'],
    ]);
    await storeImage(layout, first, 'v3');
    await expect(layout.readManifest()).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
      hint: expect.stringContaining(':v2') as string,
    });
    await expect(layout.readManifest('v9')).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  });

  test('a staged file becomes a blob by rename', async () => {
    const layout = openLayout(directory);
    const image = fakeImage([100_000]);
    const layer = image.layers[0]!;
    const path = await layout.staging.newFile();
    await writeFile(path, image.blobs.get(layer.digest)!.subarray(1));
    await expect(layout.staging.adopt(layer, path)).rejects.toEqual(code('INPUT_TRUNCATED'));
    await writeFile(path, image.blobs.get(layer.digest)!);
    await layout.staging.adopt(layer, path);
    expect((await bytesOf(layout.openBlob(layer))).length).toBe(layer.size);
    expect((await readdir(directory)).sort()).toEqual(['blobs', 'index.json', 'oci-layout']);
  });
});

describe('damage', () => {
  const image = fakeImage([2_500_000]);
  const layer = image.layers[0]!;
  let path: string;
  beforeEach(async () => {
    await storeImage(openLayout(directory), image, 'v1');
    path = join(directory, 'blobs', 'sha256', digestHex(layer.digest));
  });

  test('a flipped bit anywhere keeps the end from the reader', async () => {
    const bytes = await readFile(path);
    for (const position of [0, 1_200_000, bytes.length - 1]) {
      const flipped = Buffer.from(bytes);
      flipped[position]! ^= 0x10;
      await writeFile(path, flipped);
      let gotBytes = 0;
      const reading = async (): Promise<void> => {
        for await (const chunk of openLayout(directory).openBlob(layer)) gotBytes += chunk.length;
      };
      await expect(reading()).rejects.toEqual(code('INPUT_DIGEST_MISMATCH'));
      expect(gotBytes).toBeLessThan(bytes.length);
    }
  });

  test('a truncated blob is refused before its first byte, and is written anew by the next copy', async () => {
    await truncate(path, 1000);
    const layout = openLayout(directory);
    await expect(layout.openBlob(layer)[Symbol.asyncIterator]().next()).rejects.toEqual(
      code('INPUT_TRUNCATED'),
    );
    expect(await layout.hasBlob(layer)).toBe(false);
    const source = createMemoryStore();
    await storeImage(source, image);
    await copyImage(source, layout, { tag: 'v1' });
    expect((await bytesOf(layout.openBlob(layer))).length).toBe(layer.size);
  });

  test('a changed or truncated manifest is refused', async () => {
    const { digest } = image.manifest.descriptor;
    const manifestPath = join(directory, 'blobs', 'sha256', digestHex(digest));
    await writeFile(
      manifestPath,
      Buffer.from(image.manifest.bytes).toString().replace('linux', 'LINUX') + ' ',
    );
    await expect(openLayout(directory).readManifest()).rejects.toEqual(code('INPUT_DIGEST_MISMATCH'));
    await truncate(manifestPath, 10);
    await expect(openLayout(directory).readManifest('v1')).rejects.toEqual(code('INPUT_TRUNCATED'));
  });

  test('content that is not what its digest says is never stored', async () => {
    const layout = openLayout(join(root, 'other'));
    await expect(layout.writeBlob(layer, () => streamOf(Buffer.alloc(layer.size)))).rejects.toEqual(
      code('INPUT_DIGEST_MISMATCH'),
    );
    expect(await layout.hasBlob(layer)).toBe(false);
    expect(await readdir(join(root, 'other', 'blobs', 'sha256'))).toEqual([]);
    expect((await readdir(join(root, 'other'))).some((name) => name.endsWith('.partial'))).toBe(false);
  });
});

describe('what is not a layout', () => {
  test('nothing there, an empty layout, another directory, another version', async () => {
    await expect(openLayout(directory).readManifest()).rejects.toEqual(code('STATE_NOT_FOUND'));
    await mkdir(directory);
    await writeFile(join(directory, 'notes.txt'), 'keep me');
    await expect(openLayout(directory).readManifest()).rejects.toEqual(code('INPUT_NOT_AN_IMAGE'));
    await expect(storeImage(openLayout(directory), fakeImage())).rejects.toEqual(code('INPUT_NOT_AN_IMAGE'));
    expect(await readdir(directory)).toEqual(['notes.txt']);
    await writeFile(join(directory, 'index.json'), '{"schemaVersion":2,"manifests":null}');
    await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    await expect(openLayout(directory).readManifest()).rejects.toEqual(code('STATE_NOT_FOUND'));
    await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"2.0.0"}');
    await expect(openLayout(directory).readManifest()).rejects.toEqual(code('INPUT_MALFORMED'));
  });
});

describe('crashes and company', () => {
  test('files of a crash do no harm, and go when they are old', async () => {
    await mkdir(join(directory, 'blobs', 'sha256'), { recursive: true });
    const name = (digit: string): string => `.latchkey-00000000-0000-4000-8000-00000000000${digit}.partial`;
    const [old, young] = [join(directory, name('1')), join(directory, name('2'))];
    await writeFile(old, 'half');
    await writeFile(young, 'half');
    const longAgo = (Date.now() - LAYOUT_LEFTOVER_AGE_MS) / 1000 - 60;
    await utimes(old, longAgo, longAgo);
    const image = fakeImage();
    await storeImage(openLayout(directory), image, 'v1');
    expect((await openLayout(directory).readManifest('v1')).descriptor).toEqual(image.manifest.descriptor);
    const names = await readdir(directory);
    expect(names).not.toContain(name('1'));
    expect(names).toContain(name('2'));
  });

  test('a stranger who holds on to the lock does not keep it from being given up', async () => {
    const name = `\0latchkey-layout-${createHash('sha256').update(directory).digest('hex')}`;
    const stranger = await withLayoutLock(directory, async () => {
      const socket = connect(name);
      await once(socket, 'connect');
      return socket;
    });
    await withLayoutLock(directory, async () => undefined);
    stranger.destroy();
  });

  test('a writer killed while it has the lock leaves no lock behind', async () => {
    await storeImage(openLayout(directory), fakeImage(), 'v1');
    const script = `
      import { withLayoutLock } from '#src/store/layout-lock.ts';
      await withLayoutLock(${JSON.stringify(directory)}, () => new Promise(() => process.stdout.write('locked')));
    `;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const writing = storeImage(openLayout(directory), fakeImage(), 'v2');
    child.kill('SIGKILL');
    await writing;
    expect(await entries()).toHaveLength(2);
  });

  test('who waits for another can stop waiting', async () => {
    const controller = new AbortController();
    await withLayoutLock(root, async () => {
      const waiting = withLayoutLock(root, () => Promise.resolve(), { signal: controller.signal });
      controller.abort();
      await expect(waiting).rejects.toThrow(code('INTERRUPTED'));
    });
  });

  test('writers at once, in this process and others, lose no entry', async () => {
    const script = `
      import { openLayout } from '#src/store/layout.ts';
      import { fakeImage, storeImage } from './test/fakes/image.ts';
      for (let turn = 0; turn < 8; turn += 1) {
        await storeImage(openLayout(process.argv[1]), fakeImage([10]), process.argv[2] + turn);
      }
    `;
    const processes = ['a', 'b'].map(
      (name) =>
        new Promise((resolve) => {
          spawn(process.execPath, ['--input-type=module-typescript', '-e', script, '--', directory, name], {
            stdio: 'inherit',
          }).once('exit', resolve);
        }),
    );
    const own = Array.from({ length: 8 }, (_, turn) =>
      storeImage(openLayout(directory), fakeImage([10]), `c${turn}`),
    );
    expect(await Promise.all([...processes, ...own.map((write) => write.then(() => 0))])).toEqual(
      Array(10).fill(0),
    );
    const tags = (await entries()).map((entry) => Object.values(entry.annotations ?? {})[0]);
    expect(tags.sort()).toEqual(
      ['a', 'b', 'c'].flatMap((name) => Array.from({ length: 8 }, (_, turn) => `${name}${turn}`)),
    );
  });
});
