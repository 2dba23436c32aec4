import { randomBytes } from 'node:crypto';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import { type NewSnapshot, openJournal } from '../../../shim/snapshotter/journal.ts';
import { WriteAheadLog } from '../../../shim/snapshotter/write-ahead-log.ts';
import { fakeLayer, gateRecord } from '../../fakes/scripted-gate.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();

const PAGE_BYTES = 4096;

function path(): string {
  return join(directory(), 'snapshots.db');
}

const plain: NewSnapshot = {
  key: 'k8s.io/1/base',
  parent: null,
  kind: 'active',
  labels: {},
  createdAtMs: 1_800_000_000_000,
  updatedAtMs: 1_800_000_000_001,
  store: 'disk',
  sizeBytes: 0,
  inodes: 0,
  layer: null,
  gate: null,
};
const gated: NewSnapshot = {
  ...plain,
  key: 'k8s.io/2/top',
  parent: plain.key,
  kind: 'committed',
  labels: { 'containerd.io/snapshot.ref': 'a "quoted" ä' },
  store: 'memory',
  sizeBytes: 2 ** 40,
  inodes: 12,
  layer: fakeLayer('app', 'encrypted').identity.layer,
  gate: gateRecord('app'),
};

describe('the journal', () => {
  test('gives back what was put in, after it was closed too', () => {
    const first = openJournal(path());
    const base = first.insert(plain);
    const top = first.insert(gated);
    expect(base).toEqual({ ...plain, id: base.id });
    expect(top).toEqual({ ...gated, id: top.id });
    first.close();
    const second = openJournal(path());
    expect(second.all()).toEqual([base, top]);
    expect(second.find(gated.key)).toEqual(top);
    expect(second.children(plain.key)).toEqual([top]);
    expect(second.children(gated.key)).toEqual([]);
    expect(second.find('nothing')).toBeUndefined();
    second.close();
  });

  test('is durable without being closed: what a kill leaves is whole', () => {
    const journal = openJournal(path());
    const base = journal.insert(plain);
    for (const suffix of ['', '-wal', '-shm']) {
      copyFileSync(`${path()}${suffix}`, `${path()}.copy${suffix}`);
    }
    journal.close();
    const copy = openJournal(`${path()}.copy`);
    expect(copy.all()).toEqual([base]);
    copy.close();
  });

  test('is on the disk when a flush resolves, also the one that waits behind another', async () => {
    const journal = openJournal(path());
    const synced: string[] = [];
    const syncs = [journal.flush().then(() => synced.push('first'))];
    journal.insert(plain);
    syncs.push(journal.flush().then(() => synced.push('second')));
    syncs.push(journal.flush().then(() => synced.push('third')));
    await Promise.all(syncs);
    expect(synced).toEqual(['first', 'second', 'third']);
    journal.close();
  });

  test('says so when what was written cannot be brought to the disk', async () => {
    const log = new WriteAheadLog(join(directory(), 'not-there', 'snapshots.db-wal'));
    await expect(log.flush()).rejects.toMatchObject({ code: expect.stringMatching(/^[A-Z]+_/) as string });
    log.close();
  });

  test('knows the children of a key through every change', () => {
    const journal = openJournal(path());
    const first = journal.insert({ ...gated, key: 'k8s.io/3/first' });
    const second = journal.insert({ ...gated, key: 'k8s.io/4/second' });
    expect(journal.children(plain.key)).toEqual([first, second]);
    journal.replace({ ...first, key: 'k8s.io/5/renamed' });
    expect(
      journal
        .children(plain.key)
        .map(({ key }) => key)
        .sort(),
    ).toEqual(['k8s.io/4/second', 'k8s.io/5/renamed']);
    journal.remove(first.id);
    journal.remove(second.id);
    expect(journal.children(plain.key)).toEqual([]);
    expect(journal.find(second.key)).toBeUndefined();
    journal.close();
  });

  test('replaces by id, under a new key', () => {
    const journal = openJournal(path());
    const { id } = journal.insert(plain);
    journal.replace({ ...gated, id });
    expect(journal.all()).toEqual([{ ...gated, id }]);
    expect(journal.find(plain.key)).toBeUndefined();
    journal.close();
  });

  test('never uses an id twice, also after a restart', () => {
    const first = openJournal(path());
    const { id } = first.insert(plain);
    first.remove(id);
    first.close();
    const second = openJournal(path());
    expect(second.insert(plain).id).toBeGreaterThan(id);
    second.close();
  });

  test('holds one snapshot per key', () => {
    const journal = openJournal(path());
    journal.insert(plain);
    expect(() => journal.insert(plain)).toThrow();
    expect(journal.all()).toHaveLength(1);
    journal.close();
  });
});

describe('a journal that cannot be used', () => {
  test('of a newer version is refused and left as it is', () => {
    openJournal(path()).close();
    const database = new DatabaseSync(path());
    database.exec('PRAGMA user_version = 2; PRAGMA wal_checkpoint(TRUNCATE);');
    database.close();
    const before = readFileSync(path());
    expect(() => openJournal(path())).toThrow(expect.objectContaining({ code: 'STATE_NEWER_SCHEMA' }));
    expect(readFileSync(path()).equals(before)).toBe(true);
  });

  test.each([
    ['text', Buffer.from('not a database, but long enough to be looked at as one'.repeat(40))],
    ['random bytes', randomBytes(8192)],
  ])('of %s is refused with what to do', (_case, bytes) => {
    writeFileSync(path(), bytes);
    expect(() => openJournal(path())).toThrow(
      expect.objectContaining({
        code: 'STATE_DAMAGED',
        hint: expect.stringContaining('move it away') as string,
      }),
    );
    expect(readFileSync(path()).equals(bytes)).toBe(true);
  });

  test('with a page overwritten is refused with what to do', () => {
    const journal = openJournal(path());
    for (let index = 0; index < 50; index += 1) journal.insert({ ...gated, key: `k8s.io/${index}/x` });
    journal.close();
    const bytes = readFileSync(path());
    randomBytes(3000).copy(bytes, 100);
    writeFileSync(path(), bytes);
    expect(() => openJournal(path())).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }));
  });

  test('with a row that is no JSON any more is refused with what to do', () => {
    const journal = openJournal(path());
    journal.insert(gated);
    journal.close();
    const database = new DatabaseSync(path());
    database.exec(`UPDATE snapshot SET gate = '{"image'`);
    database.close();
    expect(() => openJournal(path())).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }));
  });

  test('with a page in its middle overwritten is refused, not opened or called a defect', () => {
    const journal = openJournal(path());
    for (let index = 0; index < 200; index += 1) journal.insert({ ...gated, key: `k8s.io/${index}/x` });
    journal.close();
    const bytes = readFileSync(path());
    for (let page = 1; page < bytes.length / PAGE_BYTES; page += 1) {
      const damaged = join(directory(), `${page}.db`);
      writeFileSync(
        damaged,
        Buffer.from(bytes).fill(randomBytes(64), page * PAGE_BYTES, (page + 1) * PAGE_BYTES),
      );
      expect(() => openJournal(damaged), `page ${page}`).toThrow(
        expect.objectContaining({ code: 'STATE_DAMAGED' }),
      );
    }
  });

  test('of schema 1, as the first version wrote it for a running container, gives all of its snapshots', () => {
    copyFileSync(join(import.meta.dirname, '..', '..', 'vectors', 'snapshot-journal-1.db'), path());
    const journal = openJournal(path());
    const snapshots = journal.all();
    expect(snapshots.map(({ kind, store }) => `${kind} ${store}`)).toEqual([
      ...['committed disk', 'committed memory', 'committed memory'],
      ...['active disk', 'active memory'],
    ]);
    const gatedOnes = snapshots.filter(({ gate }) => gate !== null);
    expect(gatedOnes.map(({ layer }) => layer?.namespace)).toEqual(['k8s.io', 'k8s.io']);
    const [container] = snapshots.slice(-1);
    expect(container?.labels).toEqual({ 'latchkey/admitted': 'true' });
    expect(journal.children(gatedOnes.at(-1)!.key)).toEqual([container]);
    const added = journal.insert(gated);
    expect(added.id).toBeGreaterThan(container!.id);
    journal.close();
  });

  test('in a directory that is not there is refused', () => {
    expect(() => openJournal(join(directory(), 'nothing', 'snapshots.db'))).toThrow(
      expect.objectContaining({ code: 'STORAGE_FAILED' }),
    );
  });
});
