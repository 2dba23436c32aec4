/** Leases that ended long ago are deleted; what else knows of leases goes on as before. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Clock } from '#src/base/clock.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS } from '#src/base/units.ts';
import type { AdminClient } from '../../cli/admin-client.ts';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { withWrites } from '../../keyserver/db/other-writes.ts';
import type { Store } from '../../keyserver/db/store.ts';
import { deleteEndedLeases } from '../../keyserver/domain/ended-leases.ts';
import { newId } from '../../keyserver/domain/ids.ts';
import { startLeaseSweep } from '../../keyserver/lease-sweep.ts';
import { ENDED_LEASES_AT_ONCE, LEASE_RETENTION_MS } from '../../keyserver/limits.ts';
import { createLogger } from '../../keyserver/logging.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { openServerStore } from '../../lab/server-database.ts';
import { LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const LEASE_MS = HOUR_MS;
const LONG_LEASE_MS = 30 * DAY_MS;
const GRACE_MS = 30 * DAY_MS;
const NEVER = new AbortController().signal;

let server: TestKeyServer;
let sold: SoldProduct;
let client: AdminClient;
let node: LicensedNode;
let licenseId: string;
/** Of the node, in the order of time: a chain of three, then two for starts. */
let chain: string[];
let starts: string[];
/** Of another node, which may use its leases for longer. */
let graceful: string[];
const nonce = randomBytes(16);
const before: { nodes?: unknown; usedConcurrent?: number } = {};

const leaseIdOf = async (of: LicensedNode, token: string) => (await of.claimsOf(token)).leaseId;

async function start(of: LicensedNode, own = randomBytes(16)): Promise<string> {
  return leaseIdOf(of, (await of.acquire({ ...sold.image, nonce: own })).lease);
}

/** The lease that follows, or the code of the refusal. */
async function renew(of: LicensedNode, leaseId: string): Promise<string> {
  const { outcome } = (await of.renew([leaseId])).results[0]!;
  return outcome?.$case === 'lease' ? leaseIdOf(of, outcome.value) : (outcome?.value.code ?? 'nothing');
}

const inOrder = (ids: readonly string[]) => [...ids].sort();

async function leaseIds(store: Store): Promise<string[]> {
  return (await store.read.selectFrom('lease').select('id').orderBy('id').execute()).map(({ id }) => id);
}

const deletedAt = (store: Store, nowMs: number, stopping = NEVER) =>
  deleteEndedLeases({ store, clock: { nowMs: () => nowMs } as Clock }, stopping);

/** Works on the database while no key server does. */
async function withStore<Result>(work: (store: Store) => Promise<Result>): Promise<Result> {
  const store = await openServerStore(server.dataDirectory);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** Copies of a lease that ended at a time. */
async function addEnded(store: Store, leaseId: string, endedAtMs: number, count: number): Promise<void> {
  const row = await store.read
    .selectFrom('lease')
    .selectAll()
    .where('id', '=', leaseId)
    .executeTakeFirstOrThrow();
  const issuedAtMs = endedAtMs - HOUR_MS;
  const copies = Array.from({ length: count }, () => ({
    ...{ ...row, id: newId('lease', issuedAtMs), nonce: randomBytes(16).toString('hex') },
    ...{ issued_at_ms: issuedAtMs, expires_at_ms: endedAtMs, usable_until_ms: null },
  }));
  await store.write((writer) => writer.insertInto('lease').values(copies).execute());
}

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  client = sold.client;
  const short = await sold.sell({ leaseDurationMs: LEASE_MS, connectivityGraceMs: 0, maxConcurrent: 5 });
  const long = await sold.sell({ leaseDurationMs: LONG_LEASE_MS, connectivityGraceMs: GRACE_MS });
  licenseId = short.license.id;
  node = await activateNode(server, short.licenseKey);
  const first = await start(node, nonce);
  const second = await renew(node, first);
  chain = [first, second, await renew(node, second)];
  starts = [await start(node), await start(node)];
  const other = await activateNode(server, long.licenseKey);
  graceful = [await start(other), await start(other)];
  other.close();
  before.nodes = await client.licenseNodes(licenseId);
  before.usedConcurrent = (await client.license(licenseId)).usedConcurrent;
  node.close();
  await server.stop();
});

afterAll(() => server.dispose());

describe('leases that ended long ago', () => {
  it('are deleted once their time is over, but for the last of each node', async () => {
    await withStore(async (store) => {
      const all = await leaseIds(store);
      expect(all).toEqual(inOrder([...chain, ...starts, ...graceful]));
      const endMs = Date.now() + LEASE_MS;
      expect(await deletedAt(store, endMs + LEASE_RETENTION_MS - HOUR_MS)).toBe(0);
      expect(await leaseIds(store)).toEqual(all);
      expect(await deletedAt(store, endMs + LEASE_RETENTION_MS + MINUTE_MS)).toBe(4);
      expect(await leaseIds(store)).toEqual(inOrder([starts[1]!, ...graceful]));
      const longest = endMs + LONG_LEASE_MS + LEASE_RETENTION_MS;
      // What a node may still use, or could until a short while ago, has not ended.
      expect(await deletedAt(store, longest + GRACE_MS - DAY_MS)).toBe(0);
      expect(await deletedAt(store, longest + GRACE_MS + MINUTE_MS)).toBe(1);
      expect(await leaseIds(store)).toEqual(inOrder([starts[1]!, graceful[1]!]));
    });
  });

  it('are found among as many others as there are, in steps that can be the last', async () => {
    await withStore(async (store) => {
      const kept = await leaseIds(store);
      const nowMs = Date.now();
      const endedAtMs = nowMs - LEASE_RETENTION_MS - DAY_MS;
      await addEnded(store, starts[1]!, endedAtMs, 2 * ENDED_LEASES_AT_ONCE + 1);
      await addEnded(store, starts[1]!, nowMs - LEASE_RETENTION_MS + DAY_MS, 3);
      const stopping = new AbortController();
      const oneStep = deletedAt(store, nowMs, stopping.signal);
      stopping.abort();
      expect(await oneStep).toBe(ENDED_LEASES_AT_ONCE);
      expect(await deletedAt(store, nowMs, stopping.signal)).toBe(0);
      expect(await deletedAt(store, nowMs)).toBe(ENDED_LEASES_AT_ONCE + 1);
      expect(await leaseIds(store)).toHaveLength(kept.length + 3);
    });
  });

  it('are left to the process whose duty they are', async () => {
    await withStore(async (store) => {
      await addEnded(store, starts[1]!, Date.now() - LEASE_RETENTION_MS - DAY_MS, 2);
      const all = await leaseIds(store);
      const asked: string[] = [];
      let release: () => void = () => undefined;
      const released = new Promise<void>((resolve) => (release = resolve));
      const duty = (name: string) => {
        asked.push(name);
        return {
          isOurs: () => Promise.resolve(false),
          release: () => {
            release();
            return Promise.resolve();
          },
        };
      };
      const others = { ...withWrites(store, (work, urgency) => store.write(work, urgency)), duty };
      const clock = { nowMs: () => Date.now() } as Clock;
      const stop = startLeaseSweep({ store: others, clock }, createLogger('silent'));
      await released;
      await stop();
      expect(asked).toEqual(['lease sweep']);
      expect(await leaseIds(store)).toEqual(all);
    });
  });

  it('are deleted by a key server that runs, which says how many', async () => {
    server = await startKeyServer({ dataDirectory: server.dataDirectory });
    client = adminClient(server);
    await expect.poll(() => server.log()).toContain('"deleted":2');
    const ids = (await client.leases({ license: licenseId })).map(({ id }) => id);
    expect(ids).toHaveLength(4);
    expect(ids).toContain(starts[1]);
  });
});

describe('where leases were deleted', () => {
  beforeAll(() => {
    node = new LicensedNode(server, node.key, node.activation);
  });

  it('nodes, seats and the audit log are as before', async () => {
    expect(await client.licenseNodes(licenseId)).toEqual(before.nodes);
    expect((await client.license(licenseId)).usedConcurrent).toBe(before.usedConcurrent);
    expect(before.usedConcurrent).toBe(1);
    const events = await auditLog(client);
    expect(events.filter(({ detail }) => JSON.stringify(detail).includes(chain[0]!))).toHaveLength(1);
    expect((await verifyAuditLog(client.auditEvents(0))).sequence).toBe(events.length);
  });

  it('a deleted lease is renewed no more than one that has ended, and its nonce opens nothing', async () => {
    expect(await renew(node, chain[1]!)).toBe('DENIED_LEASE_INVALID');
    await expect(
      node.acquire({ ...sold.image, nonce, nodeTimeMs: Date.now() - LEASE_RETENTION_MS }),
    ).rejects.toMatchObject({ code: 'DENIED_CLOCK_SKEW' });
  });

  it('the next of a node is still renewed, and a copy of it found', async () => {
    const next = await renew(node, starts[1]!);
    expect(await renew(node, next)).toMatch(/^lease_/);
    expect(await renew(node, starts[1]!)).toBe('DENIED_LEASE_CLONED');
    node.close();
  });
});
