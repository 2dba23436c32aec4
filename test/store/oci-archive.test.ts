import { readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { LAYOUT_LEFTOVER_AGE_MS } from '#src/base/limits.ts';
import { copyImage } from '#src/store/copy.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { openOciArchive } from '#src/store/oci-archive.ts';
import { fakeStreams } from '../fakes/archive-options.ts';
import { bytesOf, fakeImage, fakeIndex, storeImage } from '../fakes/image.ts';
import { fakeReferrer, storeReferrer } from '../fakes/referrer.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const at = (name: string): string => join(directory(), name);

function open(file: string, input?: Uint8Array) {
  return openOciArchive(file, fakeStreams(directory(), input).options);
}

const [amd64, arm64] = [fakeImage([3_000_000, 0, 10], 'amd64'), fakeImage([511, 512, 513], 'arm64')];
const index = fakeIndex([
  { ...amd64.manifest, architecture: 'amd64' },
  { ...arm64.manifest, architecture: 'arm64' },
]);

async function write(file: string, tag?: string): Promise<void> {
  const archive = open(file);
  await storeImage(archive, amd64, undefined, true);
  await storeImage(archive, arm64, undefined, true);
  await archive.writeManifest(index, tag);
  await archive.finish();
}

async function expectImage(file: string, reference?: string, input?: Uint8Array): Promise<void> {
  const archive = open(file, input);
  const back = createMemoryStore();
  await copyImage(archive, back, { reference });
  expect((await back.readManifest()).bytes).toEqual(index.bytes);
  for (const image of [amd64, arm64]) {
    for (const layer of image.layers) {
      expect((await bytesOf(back.openBlob(layer))).equals(image.blobs.get(layer.digest)!)).toBe(true);
    }
  }
  await archive.discard();
}

describe('an OCI archive', () => {
  test('comes back as it was, with and without a tag, and is the only file', async () => {
    await write(at('app.tar'), 'v1');
    expect(await readdir(directory())).toEqual(['app.tar']);
    await expectImage(at('app.tar'));
    await expectImage(at('app.tar'), 'v1');
    await expectImage(at('app.tar'), index.descriptor.digest);
    await expect(open(at('app.tar')).readManifest('v2')).rejects.toMatchObject({
      code: 'STATE_NOT_FOUND',
      hint: expect.stringContaining(':v1') as string,
    });
    expect((await stat(at('app.tar'))).mode & 0o111).toBe(0);
  });

  test('is the same file for the same content', async () => {
    await write(at('first.tar'));
    await write(at('second.tar'));
    expect((await readFile(at('first.tar'))).equals(await readFile(at('second.tar')))).toBe(true);
  });

  test.each([
    ['gzip', gzipSync],
    ['zstd', zstdCompressSync],
  ])('is read compressed by %s, and nothing of it stays', async (_, compress) => {
    await write(at('app.tar'));
    await writeFile(at('app.packed'), compress(await readFile(at('app.tar'))));
    await expectImage(at('app.packed'));
    expect((await readdir(directory())).sort()).toEqual(['app.packed', 'app.tar']);
  });

  test('goes through pipes', async () => {
    const streams = fakeStreams(directory());
    const archive = openOciArchive('-', streams.options);
    await storeImage(archive, amd64, undefined, true);
    await storeImage(archive, arm64, undefined, true);
    await archive.writeManifest(index, 'v1');
    expect(streams.output()).toHaveLength(0);
    await archive.finish();
    expect(await readdir(directory())).toEqual([]);
    await expectImage('-', 'v1', streams.output());
    await expectImage('-', undefined, gzipSync(streams.output()));
    expect(await readdir(directory())).toEqual([]);
  });

  test('takes files over, and reads what was stored before it is finished', async () => {
    const archive = open(at('app.tar'));
    const layer = amd64.layers[0]!;
    const path = await archive.staging.newFile();
    await writeFile(path, amd64.blobs.get(layer.digest)!);
    await archive.staging.adopt(layer, path);
    expect(await archive.hasBlob(layer)).toBe(true);
    expect(await archive.hasBlob(amd64.layers[2]!)).toBe(false);
    await storeImage(archive, amd64, 'v1');
    expect((await archive.readManifest('v1')).descriptor).toEqual(amd64.manifest.descriptor);
    await archive.finish();
    expect((await open(at('app.tar')).readManifest()).descriptor).toEqual(amd64.manifest.descriptor);
  });

  test('carries referrers beside the image', async () => {
    const archive = open(at('app.tar'));
    await storeImage(archive, amd64, 'v1');
    const signature = fakeReferrer(amd64.manifest.descriptor, 'application/vnd.example');
    await storeReferrer(archive, signature);
    await archive.finish();
    const back = open(at('app.tar'));
    expect((await back.readManifest()).descriptor).toEqual(amd64.manifest.descriptor);
    expect(await back.listReferrers(amd64.manifest.descriptor.digest)).toMatchObject([
      { digest: signature.manifest.descriptor.digest },
    ]);
  });

  test('that was there stays until the end, and when nothing is finished', async () => {
    await writeFile(at('app.tar'), 'before');
    const archive = open(at('app.tar'));
    await storeImage(archive, amd64, 'v1');
    expect(await readFile(at('app.tar'), 'utf8')).toBe('before');
    await archive.discard();
    await archive.discard();
    expect(await readdir(directory())).toEqual(['app.tar']);
    expect(await readFile(at('app.tar'), 'utf8')).toBe('before');
    await write(at('app.tar'));
    await expectImage(at('app.tar'));
  });

  test('an abort while it is written leaves nothing', async () => {
    const archive = open(at('app.tar'));
    await storeImage(archive, amd64, 'v1');
    const controller = new AbortController();
    controller.abort();
    await expect(archive.finish(controller.signal)).rejects.toMatchObject({ code: 'INTERRUPTED' });
    await archive.discard();
    expect(await readdir(directory())).toEqual([]);
  });

  test('a reader that goes away is an error, and nothing stays', async () => {
    const streams = fakeStreams(directory());
    streams.options.streams.output.end();
    const archive = openOciArchive('-', streams.options);
    await storeImage(archive, amd64, 'v1');
    await expect(archive.finish()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    await archive.discard();
    expect(await readdir(directory())).toEqual([]);
  });

  test('what a killed run left is removed once it is old', async () => {
    const killed = open(at('app.tar'));
    await storeImage(killed, amd64);
    const [stage] = await readdir(directory());
    await writeFile(at('other.stage'), 'not ours');
    await write(at('second.tar'));
    expect(await readdir(directory())).toContain(stage);
    const old = (Date.now() - LAYOUT_LEFTOVER_AGE_MS) / 1000 - 60;
    await utimes(at(stage!), old, old);
    await write(at('second.tar'));
    expect((await readdir(directory())).sort()).toEqual(['other.stage', 'second.tar']);
  });

  test('nothing stored, nothing written', async () => {
    const archive = open(at('app.tar'));
    await archive.finish();
    expect(await readdir(directory())).toEqual([]);
  });

  test('in a directory that is not there fails with what is missing', async () => {
    const archive = open(at('no/such/app.tar'));
    await expect(storeImage(archive, amd64)).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
    await archive.discard();
  });
});
