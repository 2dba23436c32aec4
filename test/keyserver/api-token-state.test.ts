/** API tokens that ended: they let nobody in, and what they did keeps a name. */
import { sql } from 'kysely';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { API_TOKEN_STATES } from '#src/wire/admin/api-token.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { undoMigrations, withDatabase } from '../fakes/old-database.ts';
import { adminClient, auditLog } from '../fakes/sold-product.ts';

let server: TestKeyServer;

beforeAll(async () => {
  server = await startKeyServer();
});

afterAll(() => server.dispose());

const create = (name: string) => adminClient(server).createToken({ name, permissionSet: 'admin' });
const listed = async (id: string) => (await adminClient(server).tokens()).find((each) => each.id === id)!;

/** Stops the key server, does something with its database and starts it again. */
async function between(work: () => Promise<void>): Promise<void> {
  await server.stop();
  await work();
  server = await startKeyServer({ dataDirectory: server.dataDirectory });
}

it('keeps the name of a revoked token, for the events that it caused', async () => {
  const { apiToken, token } = await create('alice');
  expect(apiToken).toMatchObject({ state: 'ACTIVE', revokedAtMs: null });
  await adminClient(server, token).createProduct({ code: 'by-alice', name: 'By Alice' });
  const before = Date.now();
  await adminClient(server).revokeToken(apiToken.id);
  const refused = adminClient(server, token).products();
  await expect(refused).rejects.toMatchObject({ code: 'AUTH_REQUIRED' });

  const [event] = await adminClient(server).listAuditEvents({ action: 'product.create' });
  const revoked = await listed(event!.actor.replace('token:', ''));
  expect(revoked).toMatchObject({ id: apiToken.id, name: 'alice', state: 'REVOKED' });
  expect(revoked.revokedAtMs).toBeGreaterThanOrEqual(before);
  expect(revoked.revision).toBeGreaterThan(apiToken.revision);
  const table = await adminCommand(server, 'token', 'list', '--state', 'REVOKED');
  expect(table).toMatch(new RegExp(`${apiToken.id} +alice +admin +all +REVOKED `, 'u'));
});

it('is revoked once: a repeat changes nothing', async () => {
  const { apiToken } = await create('bob');
  const client = adminClient(server);
  await client.revokeToken(apiToken.id);
  const after = await listed(apiToken.id);
  await client.revokeToken(apiToken.id);
  expect(await listed(apiToken.id)).toEqual(after);
  const events = (await auditLog(client)).filter(({ target }) => target === apiToken.id);
  expect(events.map(({ action }) => action)).toEqual(['token.create', 'token.revoke']);
  await expect(client.revokeToken('token_none')).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
});

it('counts no ended token as an admin who could make others', async () => {
  const client = adminClient(server);
  const [first, ...others] = await client.tokens({ state: 'ACTIVE', permissionSet: 'admin' });
  expect(others).toEqual([]);
  await expect(client.revokeToken(first!.id)).rejects.toMatchObject({ code: 'STATE_PRECONDITION' });
});

it('lists the tokens that are in a state, as each says itself', async () => {
  const [expired, both] = [(await create('carol')).apiToken.id, (await create('dave')).apiToken.id];
  await adminClient(server).revokeToken(both);
  await between(() =>
    withDatabase(server.dataDirectory, async (database) => {
      await sql`update api_token set expires_at_ms = 1 where id in (${expired}, ${both})`.execute(database);
    }),
  );
  const client = adminClient(server);
  const all = await client.tokens();
  expect(all.filter(({ id }) => [expired, both].includes(id)).map(({ state }) => state)).toEqual([
    'EXPIRED',
    'REVOKED',
  ]);
  for (const state of API_TOKEN_STATES) {
    const expected = all.filter((each) => each.state === state);
    expect(expected.length, state).toBeGreaterThan(0);
    const found = await client.tokens({ state });
    expect(
      found.map(({ id }) => id),
      state,
    ).toEqual(expected.map(({ id }) => id));
  }
});

it('lets tokens of before in, and none that is revoked, even if a version of before looks', async () => {
  const { apiToken, token } = await create('erin');
  const { id: gone } = (await create('frank')).apiToken;
  const revoked = await create('grace');
  await adminClient(server).revokeToken(revoked.apiToken.id);
  await between(async () => {
    await undoMigrations(server.dataDirectory, '0038-lease-by-node');
    await withDatabase(server.dataDirectory, async (database) => {
      await sql`delete from api_token where id = ${gone}`.execute(database);
    });
  });
  expect((await adminClient(server, token).products()).length).toBe(1);
  expect(await listed(apiToken.id)).toMatchObject({ state: 'ACTIVE', revokedAtMs: null });
  await expect(adminClient(server, revoked.token).products()).rejects.toMatchObject({
    code: 'AUTH_REQUIRED',
  });
  await expect(adminClient(server).revokeToken(gone)).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
});
