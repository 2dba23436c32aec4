import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { JOIN_TOKEN_BYTES, formatJoinToken } from '#src/licensing/join-token.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { type SoldProduct, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
const nodes: LicensedNode[] = [];

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});
afterAll(async () => {
  for (const node of nodes) node.close();
  await server.dispose();
});

async function join(token: string, key = createNodeKey()): Promise<LicensedNode> {
  const node = await activateNode(server, token, { key: await key });
  nodes.push(node);
  return node;
}

it('lets as many machines in as it has uses, and counts each', async () => {
  const { license } = await sold.sell();
  const { joinToken, token } = await sold.client.createJoinToken(license.id, { uses: 2 });
  expect(joinToken).toMatchObject({ licenseId: license.id, usesLeft: 2, revokedAtMs: null });
  const node = await join(token);
  expect(node.activation.licenseId).toBe(license.id);
  expect((await node.acquire(sold.image)).lease).not.toBe('');
  expect((await sold.client.joinTokens()).find(({ id }) => id === joinToken.id)?.usesLeft).toBe(1);
  const key = createNodeKey();
  const last = await join(token, key);
  await expect(join(token)).rejects.toMatchObject({ code: 'DENIED_JOIN_TOKEN_USED' });
  // Its answer may have been lost.
  expect((await join(token, key)).activation.nodeId).toBe(last.activation.nodeId);
  expect(await sold.client.license(license.id)).toMatchObject({ usedNodes: 2 });
});

it('lets in exactly as many when all come at once', async () => {
  const { license } = await sold.sell({ maxNodes: 10 });
  const { token } = await sold.client.createJoinToken(license.id, { uses: 3 });
  const results = await Promise.allSettled(Array.from({ length: 8 }, () => join(token)));
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
});

it('does not stretch the license', async () => {
  const { license } = await sold.sell({ maxNodes: 1 });
  const { joinToken, token } = await sold.client.createJoinToken(license.id, { uses: 5 });
  await join(token);
  await expect(join(token)).rejects.toMatchObject({ code: 'DENIED_NODE_LIMIT', licenseId: license.id });
  expect((await sold.client.joinTokens()).find(({ id }) => id === joinToken.id)?.usesLeft).toBe(4);
  await sold.client.changeLicense(license.id, 'revoke');
  await expect(join(token)).rejects.toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
  await expect(sold.client.createJoinToken(license.id, {})).rejects.toMatchObject({
    code: 'STATE_PRECONDITION',
  });
});

it('ends with its time, and when it is revoked; the nodes that it let in stay', async () => {
  const { license } = await sold.sell();
  const short = await sold.client.createJoinToken(license.id, { lifeMs: 1000 });
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await expect(join(short.token)).rejects.toMatchObject({ code: 'DENIED_JOIN_TOKEN_EXPIRED' });
  const { joinToken, token } = await sold.client.createJoinToken(license.id, { uses: 2 });
  const node = await join(token);
  expect((await sold.client.revokeJoinToken(joinToken.id)).revokedAtMs).not.toBeNull();
  await expect(join(token)).rejects.toMatchObject({ code: 'DENIED_JOIN_TOKEN_UNKNOWN' });
  expect((await node.acquire(sold.image)).lease).not.toBe('');
  await expect(sold.client.revokeJoinToken('join_none')).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
});

it('is not guessed, and never stands in the log, the list or the database', async () => {
  const { license } = await sold.sell();
  const { joinToken, token } = await sold.client.createJoinToken(license.id, {});
  await expect(join(formatJoinToken(randomBytes(JOIN_TOKEN_BYTES)))).rejects.toMatchObject({
    code: 'DENIED_JOIN_TOKEN_UNKNOWN',
  });
  await join(token);
  const log = await auditLog(sold.client);
  expect(log.filter(({ target }) => target === joinToken.id).map(({ action }) => action)).toEqual([
    'join-token.create',
  ]);
  expect(log.filter(({ action }) => action === 'node.activate').at(-1)).toMatchObject({
    outcome: 'allowed',
    detail: { joinTokenId: joinToken.id },
  });
  expect(JSON.stringify([log, await sold.client.joinTokens()])).not.toContain(token);
  expect(server.log()).not.toContain(token);
});
