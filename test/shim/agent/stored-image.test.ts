import { mkdir, writeFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { digestOf } from '#src/oci/digest.ts';
import { imagesBehind, parseHookState } from '../../../shim/agent/stored-image.ts';
import { encryptedImage } from '../../fakes/encrypted-image.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const CONTAINER = 'c'.repeat(64);
const IMAGE = 'a'.repeat(64);
const COPY = 'b'.repeat(64);
const released = encryptedImage([randomBytes(10), randomBytes(10)]);
const config = digestOf(released.configBytes);

describe('the state of a container', () => {
  test('of podman says where the storage is by its bundle', () => {
    const state = { id: CONTAINER, bundle: `/data/root/overlay-containers/${CONTAINER}/userdata` };
    expect(parseHookState(Buffer.from(JSON.stringify(state)))).toEqual({
      containerId: CONTAINER,
      root: '/data/root',
      driver: 'overlay',
    });
  });

  test('of CRI-O says it by an annotation', () => {
    const state = {
      id: CONTAINER,
      bundle: `/run/containers/storage/overlay-containers/${CONTAINER}/userdata`,
      annotations: { 'io.kubernetes.cri-o.MountPoint': '/var/lib/containers/storage/overlay/abc/merged' },
    };
    expect(parseHookState(Buffer.from(JSON.stringify(state)))).toMatchObject({
      root: '/var/lib/containers/storage',
      driver: 'overlay',
    });
  });
});

/** A storage with the image, one that was built on it, and a container of one of them. */
async function storage(of: string, manifest: Buffer = released.manifestBytes) {
  const root = directory();
  for (const kind of ['containers', 'images', 'layers']) await mkdir(join(root, `overlay-${kind}`));
  const write = (path: string, value: unknown) => writeFile(join(root, path), JSON.stringify(value));
  const data = join(root, 'overlay-images', IMAGE);
  await mkdir(data);
  const name = `manifest-${released.manifestDigest}`;
  const fileOf = (text: string): string => join(data, `=${Buffer.from(text).toString('base64')}`);
  await writeFile(fileOf(name), manifest);
  await writeFile(fileOf(config), released.configBytes);
  await write('overlay-images/images.json', [
    { id: IMAGE, layer: 'two', 'big-data-names': [name, config, 'manifest'] },
    { id: COPY, layer: 'three', 'big-data-names': [] },
  ]);
  await write('overlay-layers/layers.json', [
    { id: 'one' },
    { id: 'two', parent: 'one' },
    { id: 'three', parent: 'two' },
  ]);
  await write('overlay-containers/containers.json', [{ id: CONTAINER, image: of, layer: 'four' }]);
  return { containerId: CONTAINER, root, driver: 'overlay' };
}

async function codeOf(call: Promise<unknown>): Promise<string | undefined> {
  return call.then(
    () => undefined,
    (error: unknown) => (error as LatchkeyError).code,
  );
}

describe('the images behind a container', () => {
  test('are its own as it was released', async () => {
    const [image, ...others] = await imagesBehind(await storage(IMAGE));
    expect(image).toMatchObject({ digest: released.manifestDigest, config });
    expect(image!.layers.map(({ elements }) => elements.length)).toEqual([1, 1]);
    expect(others).toEqual([]);
  });

  test('are also those that its image was built on', async () => {
    const images = await imagesBehind(await storage(COPY));
    expect(images.map(({ digest }) => digest)).toEqual([released.manifestDigest]);
  });

  test('are refused when a document is not what its digest says', async () => {
    const changed = Buffer.concat([released.manifestBytes, Buffer.from(' ')]);
    expect(await codeOf(imagesBehind(await storage(IMAGE, changed)))).toBe('INPUT_DIGEST_MISMATCH');
  });

  test('are refused for a container or an image that the storage does not know', async () => {
    const known = await storage('d'.repeat(64));
    expect(await codeOf(imagesBehind(known))).toBe('STATE_NOT_FOUND');
    expect(await codeOf(imagesBehind({ ...known, containerId: 'e'.repeat(64) }))).toBe('STATE_NOT_FOUND');
  });
});
