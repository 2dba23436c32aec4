/** A key server that finds the database of an earlier version: all of the changes are made, or none. */
import { sql } from 'kysely';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MIGRATIONS } from '../../keyserver/db/migrate.ts';
import { KeyServerExit, type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { undoMigrations, withDatabase } from '../fakes/old-database.ts';

/** Several changes lie between this one and the last. */
const OLD = '0010-audit-by-target';

let server: TestKeyServer;

beforeAll(async () => {
  server = await startKeyServer();
  await server.stop();
  await undoMigrations(server.dataDirectory, OLD);
});

afterAll(() => server.dispose());

const applied = () =>
  withDatabase(server.dataDirectory, async (database) => {
    const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(database);
    return rows.map(({ name }) => name).sort();
  });

it('changes nothing when one of the changes fails, and all once it can', async () => {
  const before = await applied();
  expect(before.at(-1)).toBe(OLD);
  // The name is taken.
  await withDatabase(server.dataDirectory, (database) =>
    sql`create table used_challenge (x text)`.execute(database),
  );
  await expect(startKeyServer({ dataDirectory: server.dataDirectory })).rejects.toThrow(KeyServerExit);
  expect(await applied()).toEqual(before);
  await withDatabase(server.dataDirectory, (database) => sql`drop table used_challenge`.execute(database));
  const again = await startKeyServer({ dataDirectory: server.dataDirectory });
  await again.stop();
  expect(await applied()).toEqual(Object.keys(MIGRATIONS).sort());
});
