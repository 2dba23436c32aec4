/**
 * Whoever presents something unknown must not learn from the time it takes how close it came. Times cannot be compared in
 * a test; what they are made of can: the statements that the database runs and the operations of the crypto library.
 */
import crypto, { sign, webcrypto } from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { StatementSync } from 'node:sqlite';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { nodeProofStatement } from '#src/licensing/node-proof.ts';
import { MINUTE_MS } from '#src/base/units.ts';
import { LICENSE_KEY_BYTES, formatLicenseKey } from '#src/licensing/license-key.ts';
import { JOIN_TOKEN_BYTES, formatJoinToken } from '#src/licensing/join-token.ts';
import { newToken } from '../../keyserver/domain/api-tokens.ts';
import type { TestKeyServer } from '../../lab/keyserver.ts';
import { authenticateAt, challengeAt } from '../../shim/agent/key-server.ts';
import { startInProcess } from '../fakes/key-server-in-process.ts';
import { type NodeKey, activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';

/** What is not there every time has been begun by something else. */
const ROUNDS = 4;

/** In this process, where its work can be counted. */
let server: TestKeyServer;
let sold: SoldProduct;
let key: NodeKey;
const work: string[] = [];

/** The SQL of a call of a database; undefined for any other. */
function statementOf(owner: unknown, [first]: readonly unknown[]): string | undefined {
  if (owner instanceof StatementSync) return owner.sourceSQL;
  if (!(owner instanceof Client)) return undefined;
  return typeof first === 'string' ? first : (first as { readonly text: string }).text;
}

function count<Name extends string>(owner: Record<Name, (...args: never[]) => unknown>, name: Name): void {
  const original = owner[name];
  vi.spyOn(owner as Record<string, (...args: unknown[]) => unknown>, name).mockImplementation(function (
    this: unknown,
    ...args: unknown[]
  ) {
    work.push(statementOf(this, args) ?? name);
    return Reflect.apply(original, this, args) as unknown;
  });
}

beforeAll(async () => {
  const limits = ['--rate-limit', 'address=1000/1000', '--rate-limit', 'license=1000/1000'];
  // Every second the server signs a checkpoint and looks for more to do: on a busy machine once in each attempt.
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  server = await startInProcess(limits);
  sold = await createSoldProduct(server);
  key = await createNodeKey();
  for (const name of ['all', 'get', 'run', 'iterate'] as const) count(StatementSync.prototype, name);
  count(Client.prototype, 'query');
  for (const name of ['createHash', 'createHmac', 'createPublicKey', 'sign', 'verify'] as const)
    count(crypto, name);
  for (const name of ['digest', 'importKey', 'sign', 'verify'] as const)
    count(Object.getPrototypeOf(webcrypto.subtle) as webcrypto.SubtleCrypto, name);
  syncBuiltinESMExports();
});

afterAll(async () => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  await server.dispose();
  vi.useRealTimers();
});

/** What an attempt makes the process do every time, its own side included, and the code of the refusal. */
async function workOf(attempt: () => Promise<string>): Promise<{ code: string; work: string[] }> {
  let common: Map<string, number> | undefined;
  let code = '';
  for (let round = 0; round < ROUNDS; round += 1) {
    work.length = 0;
    code = await attempt();
    const done = new Map<string, number>();
    for (const one of work) done.set(one, (done.get(one) ?? 0) + 1);
    common = new Map([...(common ?? done)].map(([one, times]) => [one, Math.min(times, done.get(one) ?? 0)]));
  }
  const lines = [...(common ?? [])]
    .filter(([, times]) => times > 0)
    .map(([one, times]) => `${times} x ${one}`);
  return { code, work: lines.sort() };
}

const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => 'OK',
    (error: unknown) => (error as { code: string }).code,
  );

const activation = (credential: string) => () => codeOf(activateNode(server, credential, { key }));

it('work is seen at all', async () => {
  const { code, work: done } = await workOf(activation(formatLicenseKey(Buffer.alloc(LICENSE_KEY_BYTES))));
  expect(code).toBe('DENIED_LICENSE_NOT_FOUND');
  expect(done.some((line) => line.includes('insert into "audit_event"'))).toBe(true);
  expect(done.some((line) => line.endsWith(' createHmac'))).toBe(true);
  expect(done.some((line) => line.endsWith(' sign'))).toBe(true);
});

describe('an activation takes the same work', () => {
  it('with an unknown license key, one of a license that is revoked, suspended or over, and of a blocked customer', async () => {
    const unknown = await workOf(activation(formatLicenseKey(crypto.randomBytes(LICENSE_KEY_BYTES))));
    const [revoked, suspended, early] = [
      await sold.sell(),
      await sold.sell(),
      await sold.sell({ startsAtMs: Date.now() + 3_600_000 }),
    ];
    await sold.client.changeLicense(revoked.license.id, 'revoke');
    await activateNode(server, suspended.licenseKey);
    await sold.client.changeLicense(suspended.license.id, 'suspend');
    const cases: [string, string][] = [
      ['DENIED_LICENSE_REVOKED', revoked.licenseKey],
      ['DENIED_LICENSE_SUSPENDED', suspended.licenseKey],
      ['DENIED_LICENSE_NOT_STARTED', early.licenseKey],
    ];
    for (const [code, licenseKey] of cases) {
      expect(await workOf(activation(licenseKey))).toEqual({ code, work: unknown.work });
    }
    await sold.client.changeCustomer(sold.customerId, 'block');
    const blocked = await workOf(activation(early.licenseKey));
    await sold.client.changeCustomer(sold.customerId, 'unblock');
    expect(blocked).toEqual({ code: 'DENIED_CUSTOMER_BLOCKED', work: unknown.work });
  });

  it('with an unknown join token, one that is revoked or used up, and one of a revoked license', async () => {
    const unknown = await workOf(activation(formatJoinToken(crypto.randomBytes(JOIN_TOKEN_BYTES))));
    expect(unknown.code).toBe('DENIED_JOIN_TOKEN_UNKNOWN');
    const newJoinToken = async () => {
      const { license } = await sold.sell();
      const created = await sold.client.createJoinToken(license.id, { uses: 1, lifeMs: 3_600_000 });
      return { licenseId: license.id, ...created };
    };
    const [revoked, used, ofRevoked] = [await newJoinToken(), await newJoinToken(), await newJoinToken()];
    await sold.client.revokeJoinToken(revoked.joinToken.id);
    await activateNode(server, used.token);
    await sold.client.changeLicense(ofRevoked.licenseId, 'revoke');
    const attempts = [
      await workOf(activation(revoked.token)),
      await workOf(activation(used.token)),
      await workOf(activation(ofRevoked.token)),
    ];
    expect(attempts.map(({ code }) => code)).toEqual([
      'DENIED_JOIN_TOKEN_UNKNOWN',
      'DENIED_JOIN_TOKEN_USED',
      'DENIED_LICENSE_REVOKED',
    ]);
    for (const attempt of attempts) expect(attempt.work).toEqual(unknown.work);
  });
});

it('a proof of the node key takes the same work for an unknown node and with a wrong signature', async () => {
  const node = await activateNode(server, (await sold.sell()).licenseKey);
  node.close();
  const stranger = await createNodeKey();
  const prove = (nodeId: string) => async () => {
    const nonce = await challengeAt(server.enrollAddress, server.authorityPem);
    const request = { nodeId, nonce, certificateRequest: stranger.requestDer };
    const signing = { key: stranger.privateKey, dsaEncoding: 'ieee-p1363' } as const;
    return codeOf(
      authenticateAt(server.enrollAddress, server.authorityPem, {
        ...{ nodeId, nonce, certificateRequestDer: stranger.requestDer },
        signature: sign('sha256', nodeProofStatement(request), signing),
      }),
    );
  };
  const unknown = await workOf(prove('node_nobody'));
  expect(unknown.work.some((line) => line.endsWith(' verify'))).toBe(true);
  expect(await workOf(prove(node.activation.nodeId))).toEqual(unknown);
});

it('a request takes the same work with an unknown, a revoked and an expired API token', async () => {
  const ask = (token: string) => async () => {
    const response = await fetch(`${server.adminUrl}/v1/products`, {
      headers: { authorization: `Bearer ${token}` },
    });
    return response.text();
  };
  const [revoked, expired] = [
    await sold.client.createToken({ name: 'revoked', permissionSet: 'auditor' }),
    await sold.client.createToken({ name: 'expired', permissionSet: 'auditor', lifetimeMs: MINUTE_MS }),
  ];
  await sold.client.revokeToken(revoked.apiToken.id);
  const now = Date.now;
  vi.spyOn(Date, 'now').mockImplementation(() => now() + 2 * MINUTE_MS);
  const unknown = await workOf(ask(newToken()));
  expect(unknown.code).toContain('AUTH_REQUIRED');
  expect(unknown.work.some((line) => line.includes('"api_token"'))).toBe(true);
  expect(await workOf(ask(revoked.token))).toEqual(unknown);
  expect(await workOf(ask(expired.token))).toEqual(unknown);
});
