import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fakeLayer, unpackInto, upperDirectory } from '../../fakes/scripted-gate.ts';
import { SnapshotterSite } from '../../fakes/snapshotter-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();

let site: SnapshotterSite;
beforeEach(async () => {
  site = await SnapshotterSite.open(directory());
});
afterEach(() => site.close());

function code(value: string): unknown {
  return expect.objectContaining({ code: value });
}

describe('plain snapshots', () => {
  test('are unpacked, stacked and read back', async () => {
    const base = await site.unpack(fakeLayer('base', 'plain'));
    const top = await site.unpack(fakeLayer('top', 'plain'), base);
    expect(site.snapshotter.parentChain(top).map(({ key }) => key)).toEqual([top, base]);
    const mounts = await site.snapshotter.view({ key: site.key('view'), parent: top, labels: {} });
    const files = [top, base].map((name) => site.directories.files(site.snapshotter.stat(name)));
    expect(mounts).toEqual([
      {
        type: 'overlay',
        source: 'overlay',
        target: '',
        options: ['index=off', `lowerdir=${files.join(':')}`],
      },
    ]);
  });

  test('survive a restart, with their ids, labels and usage', async () => {
    const { key, mounts } = await site.prepareLayer(fakeLayer('base', 'plain'));
    await unpackInto(mounts, 'x'.repeat(100_000));
    const name = site.key('base');
    await site.snapshotter.commit(name, key, { a: '1' });
    const before = site.snapshotter.stat(name);
    expect(before.sizeBytes).toBeGreaterThanOrEqual(100_000);
    expect(before.inodes).toBe(1);
    site.restart();
    expect(site.snapshotter.stat(name)).toEqual(before);
    expect(await site.snapshotter.usage(name)).toMatchObject({ inodes: 1, sizeBytes: before.sizeBytes });
  });

  test.each([3, 200])(
    'of containers that wrote %i files go whole, and nothing that they point to',
    async (files) => {
      const outside = join(directory(), 'outside');
      mkdirSync(outside);
      writeFileSync(join(outside, 'kept'), '');
      const key = site.key('container');
      const upper = upperDirectory(await site.snapshotter.prepare({ key, parent: '', labels: {} }));
      mkdirSync(join(upper, 'a', 'b'), { recursive: true });
      for (let file = 0; file < files; file += 1) writeFileSync(join(upper, 'a', 'b', String(file)), 'x');
      symlinkSync(outside, join(upper, 'link'));
      await site.snapshotter.remove(key);
      expect(existsSync(join(upper, '..'))).toBe(false);
      expect(readdirSync(outside)).toEqual(['kept']);
    },
  );

  test('have a root that everybody may enter, whatever the umask of the agent', async () => {
    const before = process.umask(0o077);
    try {
      const key = site.key('container');
      const mounts = await site.snapshotter.prepare({ key, parent: '', labels: {} });
      const upper = upperDirectory(mounts);
      expect(statSync(upper).mode & 0o777).toBe(0o755);
      // As an agent leaves it that is killed before it has come to the mode.
      chmodSync(upper, 0o700);
      rmSync(join(upper, '../work'), { recursive: true });
      await site.snapshotter.mounts(key);
      expect(statSync(upper).mode & 0o777).toBe(0o755);
    } finally {
      process.umask(before);
    }
  });

  test('of a container are counted as they are now; a hard link counts once', async () => {
    const key = site.key('container');
    const mounts = await site.snapshotter.prepare({ key, parent: '', labels: {} });
    expect(await site.snapshotter.usage(key)).toEqual({ sizeBytes: 0, inodes: 0 });
    mkdirSync(join(upperDirectory(mounts), 'directory'));
    writeFileSync(join(upperDirectory(mounts), 'directory', 'file'), Buffer.alloc(8192));
    linkSync(join(upperDirectory(mounts), 'directory', 'file'), join(upperDirectory(mounts), 'link'));
    const usage = await site.snapshotter.usage(key);
    expect(usage.inodes).toBe(2);
    expect(usage.sizeBytes).toBeLessThan(2 * 8192 + 8192);
  });

  test('take the owner of the parent’s root, as an overlay shows its upper’s', async () => {
    const base = await site.unpack(fakeLayer('base', 'plain'));
    const parent = site.directories.files(site.snapshotter.stat(base));
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: base, labels: {} });
    const upper = site.directories.files(site.snapshotter.stat(key));
    expect(statSync(upper).uid).toBe(statSync(parent).uid);
    expect(statSync(upper).mode & 0o777).toBe(0o755);
    expect(statSync(join(upper, '..')).mode & 0o777).toBe(0o700);
  });
});

describe('what containerd may not do', () => {
  test('two snapshots of one key', async () => {
    const request = { key: site.key('container'), parent: '', labels: {} };
    await site.snapshotter.prepare(request);
    await expect(site.snapshotter.prepare(request)).rejects.toEqual(code('STATE_CONFLICT'));
    await expect(site.snapshotter.view(request)).rejects.toEqual(code('STATE_CONFLICT'));
    expect(site.snapshotter.list()).toHaveLength(1);
  });

  test('committing under a name that is taken, a view, or a committed one', async () => {
    const base = await site.unpack(fakeLayer('base', 'plain'));
    const { key } = await site.prepareLayer(fakeLayer('base', 'plain'));
    await expect(site.snapshotter.commit(base, key, {})).rejects.toEqual(code('STATE_CONFLICT'));
    const view = site.key('view');
    await site.snapshotter.view({ key: view, parent: base, labels: {} });
    await expect(site.snapshotter.commit(site.key('x'), view, {})).rejects.toEqual(
      code('STATE_PRECONDITION'),
    );
    await expect(site.snapshotter.commit(site.key('x'), base, {})).rejects.toEqual(
      code('STATE_PRECONDITION'),
    );
  });

  test('removing what others stand on', async () => {
    const base = await site.unpack(fakeLayer('base', 'plain'));
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: base, labels: {} });
    await expect(site.snapshotter.remove(base)).rejects.toEqual(code('STATE_PRECONDITION'));
    await site.snapshotter.remove(key);
    await site.snapshotter.remove(base);
    expect(site.snapshotter.list()).toEqual([]);
    expect(readdirSync(site.roots.disk)).toEqual([]);
  });

  test('mounting a committed one', async () => {
    const base = await site.unpack(fakeLayer('base', 'plain'));
    await expect(site.snapshotter.mounts(base)).rejects.toEqual(code('STATE_PRECONDITION'));
  });

  test('naming one that is not there', async () => {
    const key = site.key('nothing');
    await expect(site.snapshotter.mounts(key)).rejects.toEqual(code('STATE_NOT_FOUND'));
    await expect(site.snapshotter.remove(key)).rejects.toEqual(code('STATE_NOT_FOUND'));
    await expect(site.snapshotter.usage(key)).rejects.toEqual(code('STATE_NOT_FOUND'));
    await expect(site.snapshotter.commit(site.key('name'), key, {})).rejects.toEqual(code('STATE_NOT_FOUND'));
  });
});

describe('Prepare and View never answer NOT_FOUND', () => {
  test('for a parent that is not there, or not committed', async () => {
    const open = site.key('container');
    await site.snapshotter.prepare({ key: open, parent: '', labels: {} });
    for (const parent of [site.key('nothing'), open]) {
      const request = { key: site.key('x'), parent, labels: {} };
      await expect(site.snapshotter.prepare(request)).rejects.toEqual(code('STATE_PRECONDITION'));
      await expect(site.snapshotter.view(request)).rejects.toEqual(code('STATE_PRECONDITION'));
    }
  });

  test('for a parent whose files somebody has removed; nothing is left of the attempt', async () => {
    const base = await site.unpack(fakeLayer('base', 'plain'));
    rmSync(join(site.roots.disk, String(site.snapshotter.stat(base).id)), { recursive: true });
    const request = { key: site.key('x'), parent: base, labels: {} };
    await expect(site.snapshotter.prepare(request)).rejects.toEqual(code('STATE_DAMAGED'));
    await expect(site.snapshotter.view(request)).rejects.toEqual(code('STATE_DAMAGED'));
    expect(site.snapshotter.list()).toHaveLength(1);
  });
});

describe('labels', () => {
  async function labelled(labels: Record<string, string>): Promise<string> {
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: '', labels });
    return key;
  }

  test.each([
    ['no mask replaces all', { b: '2' }, [], { b: '2' }],
    ['the whole mask replaces all', { b: '2' }, ['labels'], { b: '2' }],
    ['a mask of one sets that one', { a: '9', b: '2' }, ['labels.b'], { a: '1', b: '2', c: '3' }],
    ['a name with dots is one name', { 'x.y/z': '2' }, ['labels.x.y/z'], { a: '1', c: '3', 'x.y/z': '2' }],
    ['an empty value removes', { a: '' }, ['labels.a'], { c: '3' }],
    ['an absent value removes', {}, ['labels.a', 'labels.c'], {}],
  ])('%s', async (_case, labels, paths, expected) => {
    const key = await labelled({ a: '1', c: '3' });
    site.clock.advance(1000);
    const updated = site.snapshotter.update(key, labels, paths);
    expect(updated.labels).toEqual(expected);
    expect(updated.updatedAtMs).toBe(site.clock.wallMs);
    site.restart();
    expect(site.snapshotter.stat(key)).toEqual(updated);
  });

  test('of a snapshot that is not there cannot be changed', () => {
    expect(() => site.snapshotter.update(site.key('nothing'), {}, [])).toThrow(
      expect.objectContaining({ code: 'STATE_NOT_FOUND' }),
    );
  });
});

describe('cleanup', () => {
  test('removes what belongs to no snapshot, in both stores, and nothing else', async () => {
    const base = await site.unpack(fakeLayer('base', 'plain'));
    const app = await site.unpack(fakeLayer('app', 'encrypted'), base);
    for (const name of ['99', '99.moving', '1x', 'lost+found']) mkdirSync(join(site.roots.disk, name));
    mkdirSync(join(site.roots.memory, '98'));
    await site.snapshotter.cleanup();
    const ids = [base, app].map((name) => String(site.snapshotter.stat(name).id));
    expect([...readdirSync(site.roots.disk), ...readdirSync(site.roots.memory)]).toEqual(ids);
  });

  test('leaves alone what is made while it looks around', async () => {
    const removed = await site.directories.removeOrphans(() => {
      // At this moment it is not known yet; at the next one its row and then its directory are there.
      const known = new Set<number>();
      mkdirSync(join(site.roots.disk, '5'));
      return known;
    });
    expect(removed).toBe(0);
    expect(readdirSync(site.roots.disk)).toEqual(['5']);
  });

  test('leaves a move to disk that is under way alone', async () => {
    let during: string[] = [];
    const { key } = await site.prepareLayer(fakeLayer('shared', 'encrypted-with-plain-twin'));
    const { id } = site.snapshotter.stat(key);
    await site.directories.moveToDisk(id, async (_from, to) => {
      mkdirSync(to);
      await site.snapshotter.cleanup();
      during = readdirSync(site.roots.disk);
    });
    expect(during).toEqual([`${id}.moving`]);
  });
});
