/** EROFS images in the place of directories, with everything that a layer can hold. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LatchkeyError } from '#src/base/errors.ts';
import { SnapshotDirectories } from '../../../shim/snapshotter/directories.ts';
import { type LayerPacker, erofsPacker, requirePacking } from '../../../shim/snapshotter/layer-packer.ts';
import { mountMemoryStore, unmountMemoryStore } from '../../../shim/snapshotter/memory-store.ts';
import { unmountAll } from '../../../shim/snapshotter/mount-table.ts';
import { plaintextStoreState } from '../../../shim/snapshotter/plaintext-store.ts';
import { storeSkipReason } from '../../fakes/store-skip-reason.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const skip = storeSkipReason('compressed-memory');
const directory = temporaryDirectory();
const MEBIBYTE = 1024 * 1024;
const place = { id: 7, store: 'memory', layer: null } as const;

/** Everything that overlayfs and tar know, made by the tools that an administrator would take. */
const MAKE_TREE = `
  set -e; cd "$1"
  mknod gone c 0 0; mknod device b 7 1; mkfifo fifo; ln -s a link
  mkdir opaque 'a space'; setfattr -n trusted.overlay.opaque -v y opaque
  mkdir opaque/moved; setfattr -n trusted.overlay.redirect -v /elsewhere opaque/moved
  echo content > a; ln a hard; chown 1234:70000 a; touch -d '2001-02-03 04:05:06' a
  setfattr -n user.note -v text a
  echo program > program; chmod 4755 program; setcap cap_net_raw+ep program
  truncate -s 50M sparse; printf end >> sparse
  chown 5:6 .; chmod 751 .
`;
/** Sizes of directories are the file system's own affair. */
const LIST_TREE = String.raw`
  cd "$1"
  find . -type d -printf '%p %y %m %U %G\n' | sort
  find . ! -type d -printf '%p %y %m %U %G %s %n %l %T@\n' | sort
  find . -type b -o -type c | sort | xargs stat -c '%n %t %T'
  getfattr --recursive --no-dereference --dump --match=- . | sort
  find . -type f | sort | xargs -d '\n' sha256sum
`;

describe.skipIf(skip !== undefined)(`a packed layer${skip === undefined ? '' : ` (${skip})`}`, () => {
  let store: string;
  let directories: SnapshotDirectories;
  const failures: LatchkeyError[] = [];

  beforeEach(async () => {
    failures.length = 0;
    store = join(directory(), 'plaintext');
    mkdirSync(join(directory(), 'disk'));
    await mountMemoryStore(store, '32m');
    directories = open(erofsPacker((error) => failures.push(error)));
    directories.create(place, undefined);
  });
  afterEach(() => unmountMemoryStore(store));

  function open(packer: LayerPacker | undefined): SnapshotDirectories {
    return new SnapshotDirectories({ disk: join(directory(), 'disk'), memory: store }, { packer });
  }

  function shell(script: string): string {
    return execFileSync('sh', ['-c', script, 'sh', directories.files(place)]).toString();
  }

  function writeText(sizeBytes: number): void {
    writeFileSync(join(directories.files(place), 'text'), 'ACME '.repeat(sizeBytes / 5));
  }

  async function finish(): Promise<void> {
    await directories.finishLayer(place, (await directories.usage(place)).sizeBytes);
  }

  test('has every kind of file as it was, and takes less room', async () => {
    shell(MAKE_TREE);
    writeText(10 * MEBIBYTE);
    const before = shell(LIST_TREE);
    await finish();
    expect(failures).toEqual([]);
    expect(shell(LIST_TREE)).toBe(before);
    expect(before).toContain('security.capability');
    expect(directories.isReady(place)).toBe(true);
    expect((await plaintextStoreState(store)).usedBytes).toBeLessThan(MEBIBYTE);
    expect(readdirSync(join(store, '7')).sort()).toEqual(['fs', 'ready', 'work']);
    expect(() => writeFileSync(join(directories.files(place), 'new'), '')).toThrow('EROFS');
  });

  test('is known to an agent that has been restarted, also with another kind of store', async () => {
    writeText(MEBIBYTE);
    await finish();
    const restarted = open(undefined);
    expect(restarted.isReady(place)).toBe(true);
    await restarted.remove(place);
    expect(existsSync(join(store, '7'))).toBe(false);
    expect((await plaintextStoreState(store)).usedBytes).toBeLessThan(100_000);
  });

  test('goes at once when it is dropped, and for who has a file of it open when that is closed', async () => {
    writeText(MEBIBYTE);
    await finish();
    const reader = execFileSync('sh', [
      '-c',
      'exec 3<"$1/text"; umount --lazy "$1"; head -c 4 <&3',
      'sh',
      directories.files(place),
    ]);
    expect(reader.toString()).toBe('ACME');
    expect(directories.isReady(place)).toBe(false);
    await directories.remove(place);
    expect(existsSync(join(store, '7'))).toBe(false);
  });

  test('is not ready when somebody has unmounted it', async () => {
    writeText(MEBIBYTE);
    await finish();
    await unmountAll(directories.files(place));
    expect(directories.isReady(place)).toBe(false);
  });

  test('that would not be smaller stays a directory', async () => {
    writeFileSync(join(directories.files(place), 'noise'), randomBytes(MEBIBYTE));
    await finish();
    expect(directories.isReady(place)).toBe(true);
    expect(failures).toEqual([]);
    expect(readdirSync(join(store, '7')).sort()).toEqual(['fs', 'ready', 'work']);
    writeFileSync(join(directories.files(place), 'still-writable'), '');
  });

  test('for whose image there is no room stays a directory, whole, within the store’s size', async () => {
    // Random text packs to three quarters, and there is room for less than that.
    const text = randomBytes(9 * MEBIBYTE).toString('hex');
    writeFileSync(join(directories.files(place), 'text'), text);
    await finish();
    expect(failures).toMatchObject([{ code: 'STORAGE_FAILED' }]);
    expect(failures[0]!.line).not.toContain('defect');
    expect(directories.isReady(place)).toBe(true);
    expect(readFileSync(join(directories.files(place), 'text'), 'utf8') === text).toBe(true);
    expect(readdirSync(join(store, '7')).sort()).toEqual(['fs', 'ready', 'work']);
  });

  test('with a name that EROFS does not take stays a directory, and the name is told', async () => {
    mkdirSync(join(directories.files(place), 'deep'));
    const path = `deep/${'é'.repeat(127)}n`;
    writeFileSync(join(directories.files(place), path), 'ACME '.repeat(100_000));
    await finish();
    expect(failures).toMatchObject([
      { code: 'INPUT_UNSUPPORTED', message: expect.stringMatching(`254 bytes: ${path}$`) as string },
    ]);
    expect(directories.isReady(place)).toBe(true);
    expect(readdirSync(join(store, '7')).sort()).toEqual(['fs', 'ready', 'work']);
  });

  test('left half-made by a crash is not ready, and goes with the rest', async () => {
    writeText(MEBIBYTE);
    await finish();
    // A crash before the marker was written, and one before the directory was removed.
    execFileSync('sh', [
      '-c',
      'cd "$1"; rm ready; mkdir unpacked; echo ACME > image',
      'sh',
      join(store, '7'),
    ]);
    expect(directories.isReady(place)).toBe(false);
    expect(await directories.removeOrphans(() => new Set())).toBe(1);
    expect(readdirSync(store)).toEqual([]);
  });

  test('is tried at the start, and nothing of the trial stays', async () => {
    writeText(MEBIBYTE);
    await requirePacking(store);
    expect(readdirSync(store)).toEqual(['7']);
    await expect(requirePacking(join(directories.files(place), 'text'))).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
  });

  test('keeps owner and mode of its root for what is made above it', async () => {
    shell(MAKE_TREE);
    writeText(MEBIBYTE);
    await finish();
    const above = { id: 8, store: 'memory', layer: null } as const;
    directories.create(above, directories.files(place));
    expect(statSync(directories.files(above))).toMatchObject({ uid: 5, gid: 6 });
  });
});
