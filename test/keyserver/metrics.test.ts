/** What Prometheus reads of a key server, after everybody has asked it for something. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '#src/base/clock.ts';
import { HOUR_MS } from '#src/base/units.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import { LeaseCount } from '../../keyserver/metrics/lease-count.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { databaseKind, openServerStore } from '../../lab/server-database.ts';
import { challengeAt } from '../../shim/agent/key-server.ts';
import { LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { metricValue, parsePrometheusText } from '../fakes/prometheus-text.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
let node: LicensedNode;
let text: string;
const ids: string[] = [];

const read = async () => (await fetch(`http://${server.metricsAddress ?? ''}/metrics`)).text();

beforeAll(async () => {
  server = await startKeyServer({
    args: [
      '--metrics-listen=127.0.0.1:0',
      '--rate-limit=address=0.01/3',
      '--audit-export=file:/nonexistent/audit',
    ],
  });
  sold = await createSoldProduct(server);
  const { license, licenseKey } = await sold.sell();
  node = await activateNode(server, licenseKey);
  const { leaseId } = decodeJwt<LeaseClaims>((await node.acquire(sold.image)).lease);
  await node.renew([leaseId]);
  const watch = node.client.watchRevocations({ afterRevision: 0, position: undefined });
  watch.on('error', () => undefined);
  await new Promise<void>((resolve) => {
    watch.once('data', () => {
      resolve();
    });
  });
  await sold.client.changeLicense(license.id, 'revoke');
  await expect(node.acquire(sold.image)).rejects.toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
  await node.renew([leaseId]);
  await expect(activateNode(server, licenseKey)).rejects.toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
  const challenges = Array.from({ length: 6 }, () => challengeAt(server.enrollAddress, server.authorityPem));
  await Promise.allSettled(challenges);
  await fetch(`${server.adminUrl}/v1/licenses/${license.id}`);
  await fetch(`${server.adminUrl}/v1/nowhere/${license.id}`);
  await expect(sold.client.license('lic_unknown')).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  text = await read();
  watch.cancel();
  const { nodeId } = node.activation;
  ids.push(license.id, licenseKey, nodeId, leaseId, sold.customerId, sold.productCode);
  ids.push(sold.image.imageKeyId, sold.image.imageDigest, server.adminToken, '127.0.0.1');
});

afterAll(async () => {
  node.close();
  await server.dispose();
});

describe('the metrics', () => {
  it('count calls and decisions by their codes', () => {
    const value = (sample: string) => metricValue(text, `latchkey_server_${sample}`);
    expect(value('calls_total{method="acquireLease",code="OK"}')).toBe(1);
    expect(value('calls_total{method="acquireLease",code="DENIED_LICENSE_REVOKED"}')).toBe(1);
    expect(value('call_seconds_count{method="acquireLease"}')).toBe(2);
    expect(value('decisions_total{kind="acquire",code="ALLOWED"}')).toBe(1);
    expect(value('decisions_total{kind="acquire",code="DENIED_LICENSE_REVOKED"}')).toBe(1);
    expect(value('decisions_total{kind="renew",code="ALLOWED"}')).toBe(1);
    expect(value('decisions_total{kind="renew",code="DENIED_LICENSE_REVOKED"}')).toBe(1);
    expect(value('decisions_total{kind="activate",code="ALLOWED"}')).toBe(1);
    expect(value('decisions_total{kind="activate",code="DENIED_LICENSE_REVOKED"}')).toBe(1);
    expect(value('calls_total{method="challenge",code="RATE_LIMITED"}')).toBe(3);
    expect(value('rate_limited_total')).toBe(3);
    expect(value('watchers')).toBe(1);
    expect(value('sealed')).toBe(0);
    expect(value('leases')).toBe(0);
  });

  it('count admin requests by route and status', () => {
    const value = (route: string, status: number) =>
      metricValue(text, `latchkey_server_admin_requests_total{route="${route}",status="${status}"}`);
    expect(value('POST /v1/products', 201)).toBe(1);
    expect(value('GET /v1/licenses/:id', 401)).toBe(1);
    expect(value('GET /v1/licenses/:id', 404)).toBe(1);
    expect(value('none', 404)).toBe(1);
    expect(value('POST /v1/licenses/:id:revoke', 200)).toBe(1);
  });

  it('tell of the database and the audit log', async () => {
    const samples = parsePrometheusText(text);
    const value = (sample: string) => samples.get(`latchkey_server_${sample}`) ?? 0;
    const writes = value('commit_writes_sum');
    expect(writes).toBeGreaterThan(8);
    expect(value('commit_seconds_count')).toBe(value('commit_writes_count'));
    expect(value('commit_seconds_sum')).toBeGreaterThan(0);
    expect(value('database_seconds_count')).toBeGreaterThan(writes);
    expect(value('writes_waiting')).toBe(0);
    expect(value('audit_events')).toBeGreaterThan(8);
    // To a file in a directory that is not there.
    expect(value('audit_export_behind_events')).toBe(value('audit_events'));
    expect(value('webhooks_failing')).toBe(0);
    const current = async () => parsePrometheusText(await read());
    await expect
      .poll(async () => (await current()).get('latchkey_server_audit_checkpoint_events'), { timeout: 60_000 })
      .toBe((await current()).get('latchkey_server_audit_events'));
    await expect
      .poll(async () => (await current()).get('latchkey_server_audit_exports_failing'), { timeout: 60_000 })
      .toBe(1);
    const signedAt = (await current()).get('latchkey_server_audit_checkpoint_timestamp_seconds') ?? 0;
    expect(Math.abs(signedAt - Date.now() / 1000)).toBeLessThan(3600);
  });

  it('name nobody and nothing in their labels', () => {
    for (const id of ids) expect(text).not.toContain(id);
    expect(text).not.toMatch(/(?:lic|node|lease|cus|prd|tok|ik|org)[_-][0-9a-f]{6}/u);
  });

  it('are all in the operations guide', () => {
    const guide = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'operations.md'), 'utf8');
    const families = [...text.matchAll(/^# TYPE (\S+) /gmu)].map(([, name = '']) => name);
    expect(families.filter((name) => !guide.includes(`\`${name}`))).toEqual([]);
    // The disk of a PostgreSQL is not ours to look at.
    const ours =
      databaseKind() === 'SQLite' ? /`(latchkey_server_\w+)/gu : /`(latchkey_server_(?!disk)\w+)/gu;
    const documented = [...guide.matchAll(ours)].map(([, name = '']) => name);
    expect(documented.filter((name) => !families.includes(name))).toEqual([]);
  });
});

it('a metrics address that cannot be used keeps the server from starting', async () => {
  const start = startKeyServer({ args: [`--metrics-listen=${server.metricsAddress ?? ''}`] });
  await expect(start).rejects.toMatchObject({
    stderr: expect.stringMatching(
      /^latchkey: CONFIG_INVALID: [^\n]+; [^\n]*--metrics-listen[^\n]+\n$/mu,
    ) as string,
  });
});

it('count the leases that count: without those that were renewed, voided or ended', async () => {
  await server.stop();
  server = await startKeyServer({ dataDirectory: server.dataDirectory });
  sold = await createSoldProduct(server);
  const { licenseKey } = await sold.sell();
  const many = await Promise.all(['a', 'b', 'c'].map((name) => activateNode(server, licenseKey, { name })));
  const other = await createSoldProduct(server);
  const voided = await other.sell();
  many.push(await activateNode(server, voided.licenseKey));
  for (const one of many.slice(0, 3)) {
    const { leaseId } = decodeJwt<LeaseClaims>((await one.acquire(sold.image)).lease);
    await one.renew([leaseId]);
  }
  await many[3]?.acquire(other.image);
  await other.client.changeLicense(voided.license.id, 'suspend');
  for (const one of many) one.close();
  await server.stop();
  const store = await openServerStore(server.dataDirectory);
  let passedMs = 0;
  const clock = { ...systemClock, nowMs: () => Date.now() + passedMs, monotonicMs: () => passedMs };
  const count = new LeaseCount(store.read, clock);
  expect(await count.current()).toBe(3);
  passedMs = 30 * 24 * HOUR_MS;
  expect(await count.current()).toBe(0);
  await store.close();
});
