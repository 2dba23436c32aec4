import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ACTIVATIONS_BURST, FAILED_AUTHENTICATIONS_BURST } from '../../keyserver/limits.ts';
import { LICENSE_KEY_BYTES, formatLicenseKey } from '#src/licensing/license-key.ts';
import { RateLimit } from '../../keyserver/rate-limit.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { adminClient, auditLog } from '../fakes/sold-product.ts';

function limitAt(limits: { perSecond: number; burst: number; maxPeers: number }) {
  const time = { nowMs: 0 };
  const limit = new RateLimit(limits, { monotonicMs: () => time.nowMs });
  const taken = (peer: string, times: number) =>
    Array.from({ length: times }, () => limit.take(peer)).filter(Boolean).length;
  return { time, taken };
}

describe('a rate limit', () => {
  it('lets a burst through, then so many a second, and saves up no more than the burst', () => {
    const { time, taken } = limitAt({ perSecond: 2, burst: 5, maxPeers: 10 });
    expect(taken('192.0.2.1:1000', 9)).toBe(5);
    time.nowMs += 1000;
    expect(taken('192.0.2.1:2000', 9)).toBe(2);
    time.nowMs += 3_600_000;
    expect(taken('192.0.2.1:3000', 9)).toBe(5);
  });

  it('counts addresses apart, and remembers a bounded number of them', () => {
    const { taken } = limitAt({ perSecond: 1, burst: 1, maxPeers: 2 });
    for (const peer of ['192.0.2.1:1', '192.0.2.2:1']) expect(taken(peer, 2)).toBe(1);
    expect(taken('192.0.2.1:1', 1)).toBe(0);
    expect(taken('2001:db8::1:1', 2)).toBe(1);
    // 192.0.2.2 was quiet the longest and is forgotten.
    expect(taken('192.0.2.2:1', 1)).toBe(1);
  });
});

describe('enrollment', () => {
  let server: TestKeyServer;
  beforeAll(async () => {
    server = await startKeyServer();
  });
  afterAll(() => server.dispose());

  it('refuses a flood from one address before it writes anything', async () => {
    const key = await createNodeKey();
    const licenseKey = formatLicenseKey(randomBytes(LICENSE_KEY_BYTES));
    const calls = 4 * ACTIVATIONS_BURST;
    const codes = await Promise.all(
      Array.from({ length: calls }, () =>
        activateNode(server, licenseKey, { key }).then(
          () => 'activated',
          (error: unknown) => (error as { code: string }).code,
        ),
      ),
    );
    const refused = codes.filter((code) => code === 'RATE_LIMITED').length;
    expect(refused).toBeGreaterThan(0);
    const denied = codes.filter((code) => code === 'DENIED_LICENSE_NOT_FOUND').length;
    expect(refused + denied).toBe(calls);
    const events = await auditLog(adminClient(server));
    expect(events.filter(({ action }) => action === 'node.activate')).toHaveLength(denied);
  });
});

describe('the admin API', () => {
  let server: TestKeyServer;
  beforeAll(async () => {
    server = await startKeyServer();
  });
  afterAll(() => server.dispose());

  it('tells who keeps coming without a valid token to wait, and serves who has one', async () => {
    const ask = async (token: string) => {
      const response = await fetch(`${server.adminUrl}/v1/products`, {
        headers: { authorization: `Bearer ${token}` },
      });
      await response.arrayBuffer();
      return { status: response.status, retryAfter: response.headers.get('retry-after') };
    };
    const answers = await Promise.all(
      Array.from({ length: 2 * FAILED_AUTHENTICATIONS_BURST }, () => ask('lkt_wrong')),
    );
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.every(({ retryAfter }) => Number(retryAfter) > 0)).toBe(true);
    expect(answers.filter(({ status }) => status === 401).length).toBeGreaterThanOrEqual(
      FAILED_AUTHENTICATIONS_BURST,
    );
    expect((await ask(server.adminToken)).status).toBe(200);
  });
});
