import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  preparedInsert,
  preparedInsertAll,
  preparedQuery,
  preparedSetQuery,
} from '../../keyserver/db/prepared-query.ts';
import type { Reader, Store } from '../../keyserver/db/store.ts';
import { openNewStore, removeServerDatabase } from '../../lab/server-database.ts';

let directory: string;
let store: Store;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-prepared-'));
  store = await openNewStore(directory);
});

afterAll(async () => {
  await store.close();
  await removeServerDatabase(directory);
  await rm(directory, { recursive: true });
});

const event = {
  organization_id: 'org_a',
  time_ms: 1,
  actor: 'system',
  action: 'test',
  target: 'x',
  outcome: 'done',
  detail: '{}',
  previous_hash: '',
  hash: '',
};

describe('a prepared query', () => {
  it('is built once and runs with the values of each run', async () => {
    let built = 0;
    const find = preparedQuery((reader: Reader, { sequence, actor }: { sequence: number; actor: string }) => {
      built += 1;
      return reader
        .selectFrom('audit_event')
        .select(['sequence', 'actor'])
        .where('actor', '=', actor)
        .where('sequence', '=', sequence);
    });
    const insert = preparedInsert('audit_event');
    await store.write(async (writer) => {
      await insert(writer, { ...event, sequence: 1, actor: 'node:a', code: null });
      await insert(writer, { ...event, sequence: 2, actor: 'node:b', code: 'DENIED_NODE_BANNED' });
      expect(await find(writer, { sequence: 1, actor: 'node:a' })).toEqual([
        { sequence: 1, actor: 'node:a' },
      ]);
      expect(await find(writer, { sequence: 2, actor: 'node:a' })).toEqual([]);
    });
    expect(await find(store.read, { sequence: 2, actor: 'node:b' })).toHaveLength(1);
    expect(built).toBe(1);
  });

  it('inserts rows that have other columns by another query', async () => {
    const insert = preparedInsert('audit_event');
    await store.write(async (writer) => {
      await insert(writer, { ...event, sequence: 3, code: 'DENIED_NODE_BANNED' });
      // The column is nullable, so that a row without it is whole.
      await insert(writer, { ...event, sequence: 4 });
    });
    const rows = await store.read
      .selectFrom('audit_event')
      .select(['sequence', 'code'])
      .where('sequence', '>=', 3)
      .orderBy('sequence')
      .execute();
    expect(rows).toEqual([
      { sequence: 3, code: 'DENIED_NODE_BANNED' },
      { sequence: 4, code: null },
    ]);
  });

  it('may differ where a value is null', async () => {
    const find = preparedQuery((reader: Reader, { code }: { code: string | null }) => {
      const events = reader.selectFrom('audit_event').select('sequence').orderBy('sequence');
      return code === null ? events.where('code', 'is', null) : events.where('code', '=', code);
    });
    expect(await find(store.read, { code: 'DENIED_NODE_BANNED' })).toEqual([
      { sequence: 2 },
      { sequence: 3 },
    ]);
    expect(await find(store.read, { code: null })).toEqual([{ sequence: 1 }, { sequence: 4 }]);
    expect(await find(store.read, { code: 'DENIED_NODE_RETIRED' })).toEqual([]);
  });

  it('cannot be computed from a value, which would be that of its first run', async () => {
    const since = preparedQuery((reader: Reader, { size }: { size: number }) =>
      reader
        .selectFrom('audit_event')
        .select('sequence')
        .where('sequence', '>', size + 1),
    );
    await expect(since(store.read, { size: 1 })).rejects.toThrow(/size is not known when the query is built/);
  });

  it('inserts any number of rows, and finds any set of them', async () => {
    const counts = [0, 1, 2, 3, 7, 20];
    const insert = preparedInsertAll('audit_event');
    const find = preparedSetQuery((reader: Reader, targets) =>
      reader.selectFrom('audit_event').select(['target', 'code']).where('target', 'in', targets),
    );
    for (const count of counts) {
      const rows = Array.from({ length: count }, (_, index) => ({
        ...event,
        sequence: 100 * count + index,
        target: `${count} ${index}`,
        code: index % 2 === 0 ? null : `CODE_${index}`,
      }));
      await store.write((writer) => insert(writer, rows));
      const names = rows.map(({ target }) => target);
      if (count === 0) continue;
      const found = await find(store.read, [...names, 'unknown']);
      expect(found).toHaveLength(count);
      expect(found).toEqual(expect.arrayContaining(rows.map(({ target, code }) => ({ target, code }))));
    }
  });

  it('inserts no rows whose columns differ', async () => {
    const insert = preparedInsertAll('audit_event');
    const rows = [
      { ...event, sequence: 5000 },
      { ...event, sequence: 5001, code: 'DENIED_NODE_BANNED' },
    ];
    await expect(store.write((writer) => insert(writer, rows))).rejects.toThrow(/columns/);
  });
});
