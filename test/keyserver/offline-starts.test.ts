/** Bundles that are for so many starts of containers. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { createNodeKey } from '../fakes/licensed-node.ts';
import { offlineRequest } from '../fakes/offline-node.ts';
import { type SoldProduct, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(() => server.dispose());

test('the number is in the bundle, in the list and in the log', async () => {
  const { license } = await sold.sell();
  const memoryId = randomUUID();
  const requests = [offlineRequest(await createNodeKey(), { memoryId })];
  const claims: unknown[] = [];
  for (const terms of [{ maxStarts: 100 }, {}]) {
    const { file } = await sold.client.checkOut(license.id, { requests, ...terms });
    const payload = file.bundles[0]?.token.split('.')[1] ?? '';
    claims.push(JSON.parse(Buffer.from(payload, 'base64url').toString()));
  }
  expect(claims[0]).toMatchObject({ maxStarts: 100, memoryId });
  expect(claims[1]).not.toHaveProperty('maxStarts');
  const listed = await sold.client.offlineBundles(license.id);
  expect(listed.map(({ sequence, maxStarts }) => [sequence, maxStarts])).toEqual([
    [1, 100],
    [2, null],
  ]);
  const [limited, any] = (await auditLog(sold.client)).filter(
    ({ action, target }) => action === 'license.check-out' && target === license.id,
  );
  expect(limited?.detail).toMatchObject({ maxStarts: 100 });
  expect(any?.detail).not.toHaveProperty('maxStarts');
});

test('a node that is too old to count gets no bundle with a limit, and one without', async () => {
  const { license } = await sold.sell();
  const requests = [offlineRequest(await createNodeKey(), { memoryId: undefined })];
  await expect(sold.client.checkOut(license.id, { requests, maxStarts: 100 })).rejects.toMatchObject({
    code: 'STATE_PRECONDITION',
  });
  expect((await sold.client.checkOut(license.id, { requests })).bundles).toMatchObject([{ sequence: 1 }]);
});

test.each([0, -1, 1.5, 1_000_001])('%s starts are refused', async (maxStarts) => {
  const { license } = await sold.sell();
  const requests = [offlineRequest(await createNodeKey())];
  await expect(sold.client.checkOut(license.id, { requests, maxStarts })).rejects.toMatchObject({
    code: 'USAGE_INVALID',
  });
  expect(await sold.client.offlineBundles(license.id)).toEqual([]);
});
