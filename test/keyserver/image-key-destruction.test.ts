/** Image keys that are to be destroyed: from when they open nothing, until when that can be taken back. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DAY_MS } from '#src/base/units.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { openServerStore } from '../../lab/server-database.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
let node: LicensedNode;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  node = await activateNode(server, (await sold.sell()).licenseKey);
});

afterAll(async () => {
  node.close();
  await server.dispose();
});

it('stops at once, comes back when that is cancelled, and is gone on its day', async () => {
  const { client, image } = sold;
  const { imageKeyId: id } = image;
  await node.acquire(image);
  const last = (await auditLog(client)).at(-1)?.sequence;

  const before = Date.now();
  const scheduled = await client.scheduleDestruction(id, {});
  expect(scheduled).toMatchObject({ id, productCode: sold.productCode, state: 'DESTROY_SCHEDULED' });
  expect(scheduled.destroyAtMs).toBeGreaterThanOrEqual(before + 7 * DAY_MS);
  expect(scheduled.destroyAtMs).toBeLessThanOrEqual(Date.now() + 7 * DAY_MS);
  expect(await client.scheduleDestruction(id, { days: 30 })).toEqual(scheduled);
  await expect(node.acquire(image)).rejects.toMatchObject({ code: 'DENIED_KEY_UNAVAILABLE' });

  const kept = { state: 'ACTIVE', destroyAtMs: null };
  expect(await client.cancelDestruction(id)).toMatchObject(kept);
  expect(await client.cancelDestruction(id)).toMatchObject(kept);
  await node.acquire(image);

  await client.scheduleDestruction(id, { days: 8 });
  node.close();
  await server.stop();
  await makeDue(server.dataDirectory, id);
  server = await startKeyServer({ dataDirectory: server.dataDirectory });
  const again = adminClient(server);
  expect(await again.imageKey(id)).toMatchObject({ state: 'DESTROYED', destroyAtMs: 1 });
  for (const change of [() => again.cancelDestruction(id), () => again.scheduleDestruction(id, {})]) {
    await expect(change()).rejects.toMatchObject({ code: 'STATE_PRECONDITION' });
  }
  const actions = (await auditLog(again, last)).map(({ action }) => action);
  expect(actions.filter((action) => action.includes('destr'))).toEqual([
    'image-key.schedule-destruction',
    'image-key.cancel-destruction',
    'image-key.schedule-destruction',
    'image-key.destroy',
  ]);
  await server.stop();
  expect(await wrappedKeyBytes(server.dataDirectory, id)).toBe(0);
  server = await startKeyServer({ dataDirectory: server.dataDirectory });
});

it('is for active image keys, for admins, and for a span of a week to a month', async () => {
  const client = adminClient(server);
  const fresh = await createSoldProduct(server);
  const { id } = await client.mintImageKey(fresh.productCode);
  await expect(client.scheduleDestruction(id, {})).rejects.toMatchObject({ code: 'STATE_PRECONDITION' });
  await expect(client.scheduleDestruction('ik_none', {})).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  for (const days of [6, 31, 7.5, -1]) {
    const refused = client.scheduleDestruction(fresh.image.imageKeyId, { days });
    await expect(refused).rejects.toMatchObject({ code: 'USAGE_INVALID' });
  }
  const { token } = await client.createToken({ name: 'ci', permissionSet: 'release' });
  const pipeline = adminClient(server, token);
  for (const change of [
    () => pipeline.scheduleDestruction(fresh.image.imageKeyId, {}),
    () => pipeline.cancelDestruction(fresh.image.imageKeyId),
    () => pipeline.imageKey(fresh.image.imageKeyId),
  ]) {
    await expect(change()).rejects.toMatchObject({ code: 'AUTH_FORBIDDEN' });
  }
  expect(await client.imageKey(fresh.image.imageKeyId)).toMatchObject({ state: 'ACTIVE', destroyAtMs: null });
});

/** The server is stopped: a week passes. */
async function makeDue(dataDirectory: string, id: string): Promise<void> {
  const store = await openServerStore(dataDirectory);
  await store.write((writer) =>
    writer.updateTable('image_key').set({ destroy_at_ms: 1 }).where('id', '=', id).execute(),
  );
  await store.close();
}

async function wrappedKeyBytes(dataDirectory: string, id: string): Promise<number> {
  const store = await openServerStore(dataDirectory);
  const row = await store.read
    .selectFrom('image_key')
    .select('wrapped_key')
    .where('id', '=', id)
    .executeTakeFirstOrThrow();
  await store.close();
  return row.wrapped_key.length;
}
