import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { fakeLayer, upperDirectory } from '../../fakes/scripted-gate.ts';
import { SnapshotterSite } from '../../fakes/snapshotter-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const mayMount = process.getuid?.() === 0;

let site: SnapshotterSite;
beforeEach(async () => {
  site = await SnapshotterSite.open(directory());
});
afterEach(() => site.close());

async function gatedLayer(): Promise<string> {
  const base = await site.unpack(fakeLayer('base', 'plain'));
  return site.unpack(fakeLayer('app', 'encrypted'), base);
}

describe.skipIf(!mayMount)('a removal that ends half-way (needs the right to mount)', () => {
  /** Something is mounted among the files, which no removal gets past: as far as an agent that is killed comes. */
  function block(files: string): () => void {
    const busy = join(files, 'busy');
    mkdirSync(busy);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', busy]);
    // It has been moved aside with all the rest.
    return () => execFileSync('umount', [join(`${dirname(files)}.removed`, 'fs', 'busy')]);
  }

  test('leaves no layer that counts as whole', async () => {
    const snapshot = site.snapshotter.stat(await gatedLayer());
    const unblock = block(site.directories.files(snapshot));
    try {
      await expect(site.keeper.drop(snapshot)).rejects.toThrow('busy');
      site.restart();
      expect(existsSync(`${dirname(site.directories.files(snapshot))}.removed`)).toBe(true);
      expect(site.keeper.isPresent(snapshot)).toBe(false);
    } finally {
      unblock();
    }
    await site.snapshotter.view({ key: site.key('view'), parent: snapshot.key, labels: {} });
    expect(site.gate.applied).toHaveLength(1);
  });

  test('after a failed restore does not hide why that failed, and leaves no key to ask for', async () => {
    const snapshot = site.snapshotter.stat(await gatedLayer());
    await site.keeper.drop(snapshot);
    let unblock = (): void => undefined;
    site.gate.onApply = () => {
      unblock = block(site.directories.files(snapshot));
    };
    site.gate.applyFailure = new LatchkeyError('STORAGE_FAILED', 'containerd went away');
    try {
      const view = { key: site.key('view'), parent: snapshot.key, labels: {} };
      await expect(site.snapshotter.view(view)).rejects.toMatchObject({ code: 'INPUT_DIGEST_MISMATCH' });
      expect(site.gate.ledger.unclaimed()).toEqual([]);
    } finally {
      unblock();
    }
  });
});

test('a layer that is dropped in the middle of its unpacking takes no more files, and is not committed', async () => {
  const base = await site.unpack(fakeLayer('base', 'plain'));
  const { key, mounts } = await site.prepareLayer(fakeLayer('app', 'encrypted'), base);
  const files = upperDirectory(mounts);
  // Too many to be removed at once.
  for (let number = 0; number < 1000; number += 1) writeFileSync(join(files, `file-${number}`), 'plaintext');
  site.gate.decrypt();
  const dropped = site.keeper.drop(site.snapshotter.stat(key), true);
  await setImmediate();
  expect(() => {
    writeFileSync(join(files, 'one-more'), 'plaintext');
  }).toThrow('ENOENT');
  expect(await dropped).toBe(true);
  await expect(site.snapshotter.commit(site.key('app'), key, {})).rejects.toMatchObject({
    code: 'STATE_PRECONDITION',
    hint: 'pull the image again',
  });
  expect(readdirSync(site.roots.memory)).toEqual([]);
});

test('a container that is removed while its layers are made leaves no directory behind', async () => {
  const top = await gatedLayer();
  const key = site.key('container');
  await site.snapshotter.prepare({ key, parent: top, labels: {} });
  const snapshot = site.snapshotter.stat(key);
  await site.keeper.drop(site.snapshotter.stat(top));
  const answer = site.snapshotter.mounts(key);
  const removed = new Promise<void>((resolve, reject) => {
    site.gate.onApply = () => {
      site.snapshotter.remove(key).then(resolve, reject);
    };
  });
  await expect(answer).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  await removed;
  expect(existsSync(join(site.roots.memory, String(snapshot.id)))).toBe(false);
});

test('layers that are dropped while a start is decided, as of a license that was refused for a moment, are made again', async () => {
  const top = await gatedLayer();
  const key = site.key('container');
  await site.snapshotter.prepare({ key, parent: top, labels: {} });
  const authorize = site.gate.authorize.bind(site.gate);
  let asked = 0;
  site.gate.authorize = async (groups) => {
    asked += 1;
    if (asked === 2) await site.keeper.drop(site.snapshotter.stat(top), true);
    return authorize(groups);
  };
  await site.snapshotter.mounts(key);
  expect(site.keeper.isPresent(site.snapshotter.stat(top))).toBe(true);
  // The answer that counts is the one after the layers were made.
  expect(asked).toBe(3);
});

test('a layer that was changed on this node says what to do, whichever part of it was changed', async () => {
  const snapshot = site.snapshotter.stat(await gatedLayer());
  await site.keeper.drop(snapshot);
  site.gate.applyFailure = new LatchkeyError('STORAGE_FAILED', 'a processor ended with status 1');
  const view = { key: site.key('view'), parent: snapshot.key, labels: {} };
  const hint = 'remove the image and pull it again';
  await expect(site.snapshotter.view(view)).rejects.toMatchObject({ code: 'INPUT_DIGEST_MISMATCH', hint });
  site.gate.onApply = () => {
    const [extraction] = site.gate.ledger.unclaimed();
    site.gate.ledger.claim(extraction!.token);
    site.gate.ledger.markFailed(
      extraction!.token,
      new LatchkeyError('CRYPTO_AUTHENTICATION_FAILED', 'changed'),
    );
  };
  await expect(site.snapshotter.view(view)).rejects.toMatchObject({
    code: 'CRYPTO_AUTHENTICATION_FAILED',
    hint,
  });
});
