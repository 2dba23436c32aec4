import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '#src/oci/digest.ts';
import { mountMemoryStore, unmountMemoryStore } from '../../../shim/snapshotter/memory-store.ts';
import { StoreRoom } from '../../../shim/snapshotter/store-room.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const skip = process.getuid?.() === 0 ? undefined : 'mounting needs root';
const directory = temporaryDirectory();
const MEBIBYTE = 1024 * 1024;
const diffId = digestOf('a layer');

describe.skipIf(skip !== undefined)(`room in a store${skip === undefined ? '' : ` (${skip})`}`, () => {
  let path: string;
  let room: StoreRoom;

  beforeEach(async () => {
    path = join(directory(), 'plaintext');
    mkdirSync(path);
    await mountMemoryStore(path, '4m');
    room = new StoreRoom({ directory: path, capacitySetting: 'plaintext_capacity' });
  });
  afterEach(() => unmountMemoryStore(path));

  test('is there, or the message names need, size, setting and what else helps', async () => {
    room.require(3 * MEBIBYTE, 'the image');
    writeFileSync(join(path, 'other'), Buffer.alloc(2 * MEBIBYTE));
    expect(refusal(() => room.require(3 * MEBIBYTE, 'the image'))).toMatchObject({
      code: 'STORAGE_FULL',
      message:
        'the plaintext store of 4 MiB has no room for the image: at least 3 MiB are needed, 2 MiB are free',
      hint: "raise plaintext_capacity in the configuration of the agent, stop other containers, or run 'latchkey node drop'",
    });
    expect(refusal(() => room.require(9 * MEBIBYTE, 'a layer'))).toMatchObject({
      hint: 'raise plaintext_capacity in the configuration of the agent',
    });
  });

  test('has to be there for a layer as well as for the image above it', async () => {
    room.requireForImage(3 * MEBIBYTE, diffId, MEBIBYTE);
    const image = refusal(() => room.requireForImage(5 * MEBIBYTE, diffId, MEBIBYTE));
    expect(image).toMatchObject({
      message: expect.stringContaining('for the image') as string,
    });
    const layer = refusal(() => room.requireForImage(MEBIBYTE, diffId, 5 * MEBIBYTE));
    expect(layer).toMatchObject({ message: expect.stringContaining('for a layer') as string });
  });

  test('is refused to a layer that has filled the store before, until there is more', async () => {
    const file = join(path, 'too-large');
    expect(() => writeFileSync(file, Buffer.alloc(5 * MEBIBYTE))).toThrow('ENOSPC');
    expect(room.noteGivenUp(diffId, 4 * MEBIBYTE)).toBe(true);
    writeFileSync(file, '');
    expect(refusal(() => room.requireForLayer(diffId, 1000))).toMatchObject({ code: 'STORAGE_FULL' });
    room.requireForLayer(digestOf('another layer'), 1000);
    await mountMemoryStore(path, '8m');
    room.requireForLayer(diffId, 1000);
  });

  test('is not held against a layer that was given up for another reason', async () => {
    expect(room.noteGivenUp(diffId, 1000)).toBe(false);
    room.requireForLayer(diffId, 1000);
  });
});

/** What is thrown for want of room; undefined when there is enough. */
function refusal(require: () => void): unknown {
  try {
    require();
    return undefined;
  } catch (error) {
    return error;
  }
}
