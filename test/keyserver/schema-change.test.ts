/** A key server that finds the database of another version: all of the changes to it are made, or none. */
import { sql } from 'kysely';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MIGRATIONS } from '../../keyserver/db/migrate.ts';
import { KeyServerExit, type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { changeServerDatabase } from '../../lab/server-database.ts';
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

const start = () => startKeyServer({ dataDirectory: server.dataDirectory });

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
  await expect(start()).rejects.toThrow(KeyServerExit);
  expect(await applied()).toEqual(before);
  await withDatabase(server.dataDirectory, (database) => sql`drop table used_challenge`.execute(database));
  const again = await start();
  await again.stop();
  expect(await applied()).toEqual(Object.keys(MIGRATIONS).sort());
});

it('refuses the database of a newer version, says so in one line and leaves it alone', async () => {
  await (await start()).stop();
  const before = await applied();
  await changeServerDatabase(
    server.dataDirectory,
    "insert into kysely_migration values ('9999-later', '2030-01-01')",
  );
  const failure = await start().catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(KeyServerExit);
  const { status, stderr } = failure as KeyServerExit;
  expect(status).toBe(78);
  // What the log says about the set-up comes in JSON.
  const lines = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
  expect(lines).toEqual([expect.stringMatching(/^latchkey: STATE_NEWER_SCHEMA: .*9999-later.*; .+/u)]);
  expect(await applied()).toEqual([...before, '9999-later']);
  await changeServerDatabase(server.dataDirectory, "delete from kysely_migration where name = '9999-later'");
  await (await start()).stop();
});
