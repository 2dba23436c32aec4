/** A key server that cannot open keys says so to everybody, and goes on with what needs none. */
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AUDIT_GENESIS_HASH, auditHash } from '#src/crypto/audit-chain.ts';
import type { LatchkeyError } from '#src/base/errors.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { SealClient } from '../../cli/seal-client.ts';
import { type TestKeyServer, keptAddresses, startKeyServer } from '../../lab/keyserver.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { type LicensedNode, activateNode, connectNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';
import { WHO_MAY } from './who-may.ts';

let server: TestKeyServer;
let sold: SoldProduct;
let node: LicensedNode;
let licenseId: string;
let licenseKey: string;
let leaseId: string;

const signal = new AbortController().signal;
const sealClient = () => new SealClient(server.adminUrl, signal);
const rootKey = async () => (await readFile(join(server.dataDirectory, 'root.key'), 'utf8')).trim();
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'OK',
    (error: unknown) => (error as LatchkeyError).code,
  );

async function sealServer(): Promise<void> {
  const { organizationId } = await sealClient().status();
  await adminClient(server).seal({ organizationId, reason: 'a test' });
}

async function ready(): Promise<[number, unknown]> {
  const response = await fetch(`${server.adminUrl}/readyz`);
  return [response.status, await response.json()];
}

beforeAll(async () => {
  server = await startKeyServer({ args: await keptAddresses() });
  sold = await createSoldProduct(server);
  await sold.client.createCustomer({ name: 'Hooli' });
  const { license, licenseKey: key } = await sold.sell();
  licenseId = license.id;
  licenseKey = key;
  node = await activateNode(server, key);
  await node.acquire(sold.image);
  leaseId = (await sold.client.leases())[0]?.id ?? '';
});

afterAll(async () => {
  node.close();
  await server.dispose();
});

describe('a key server that is sealed while it runs', () => {
  it('ends the streams of nodes and answers every call of theirs with DENIED_SEALED', async () => {
    const stream = node.client.watchRevocations({ afterRevision: 0, position: undefined });
    const ended = new Promise<unknown>((resolve) => stream.once('error', resolve));
    await new Promise((resolve) => stream.once('data', resolve));
    await sealServer();
    expect(fromGrpcError(await ended, 'key server').code).toBe('DENIED_SEALED');
    expect(await codeOf(node.acquire(sold.image))).toBe('DENIED_SEALED');
    // The call as a whole: a refusal of the lease would end it at the node.
    expect(await codeOf(node.renew([leaseId]))).toBe('DENIED_SEALED');
    expect(await codeOf(activateNode(server, licenseKey))).toBe('DENIED_SEALED');
  });

  it('is alive and not ready', async () => {
    expect((await fetch(`${server.adminUrl}/healthz`)).status).toBe(200);
    expect(await ready()).toEqual([503, { status: 'not-ready', reason: 'DENIED_SEALED' }]);
  });

  it('refuses what needs a key, and does what needs none', async () => {
    const { client, productCode } = sold;
    expect(await codeOf(sold.sell())).toBe('DENIED_SEALED');
    expect(await codeOf(client.mintImageKey(productCode))).toBe('DENIED_SEALED');
    // It needs no key itself, but its repeat could not be told from a second one.
    await expect(client.createCustomer({ name: 'Hooli' })).rejects.toMatchObject({
      code: 'DENIED_SEALED',
      message: expect.stringContaining('can keep no answer for a repeat') as string,
    });
    expect(await codeOf(client.auditCheckpoint())).toBe('DENIED_SEALED');
    expect((await client.licenses()).map(({ id }) => id)).toEqual([licenseId]);
    // Page by page too, although a cursor is authenticated.
    const page = async (after: string) => {
      const query = `limit=1&after=${encodeURIComponent(after)}`;
      const headers = { authorization: `Bearer ${server.adminToken}` };
      const response = await fetch(`${server.adminUrl}/v1/customers?${query}`, { headers });
      return (await response.json()) as { items: unknown[]; nextAfter: string | null };
    };
    const first = await page('');
    expect((await page(first.nextAfter ?? '')).items).toHaveLength(1);
    await client.changeLicense(licenseId, 'suspend', 'unpaid');
    expect((await client.license(licenseId)).state).toBe('SUSPENDED');
    await client.changeLicense(licenseId, 'reinstate', 'paid');
    // Also by somebody who says what he has seen.
    const headers = { authorization: `Bearer ${server.adminToken}`, 'content-type': 'application/json' };
    const body = JSON.stringify({ reason: 'unpaid again' });
    const path = `${server.adminUrl}/v1/licenses/${licenseId}`;
    const { revision } = await client.license(licenseId);
    const suspend = (ifMatch: string) =>
      fetch(`${path}:suspend`, { method: 'POST', body, headers: { ...headers, 'if-match': ifMatch } });
    expect((await suspend(`"${revision - 1}"`)).status).toBe(412);
    expect((await suspend(`"${revision}"`)).status).toBe(200);
    await client.changeLicense(licenseId, 'reinstate');
  });

  it('goes on showing every list', async () => {
    const lists = Object.keys(WHO_MAY).flatMap((row) => /^GET (\/v1\/[a-z-]+)$/u.exec(row)?.[1] ?? []);
    expect(lists).toContain('/v1/webhook-endpoints');
    for (const path of lists.filter((list) => list !== '/v1/audit-checkpoint')) {
      const headers = { authorization: `Bearer ${server.adminToken}` };
      const response = await fetch(server.adminUrl + path, { headers });
      expect(response.status, path).toBe(200);
    }
  });

  it('stays sealed for another root key and opens for its own', async () => {
    expect(await codeOf(sealClient().unseal({ rootKey: '0'.repeat(64) }))).toBe('KEY_INVALID');
    expect(await sealClient().status()).toMatchObject({ isSealed: true });
    expect(await codeOf(sealClient().unseal({ rootKey: 'short' }))).toBe('USAGE_INVALID');
    expect(await sealClient().unseal({ rootKey: await rootKey() })).toMatchObject({ isSealed: false });
    expect(await ready()).toMatchObject([200, { status: 'ready' }]);
    expect((await node.acquire(sold.image)).imageKeyJwe).not.toBe('');
    expect((await node.renew([leaseId])).results).toHaveLength(1);
  });

  it('has all of it in an unbroken audit log, with who and why', async () => {
    const events = await auditLog(sold.client);
    let hash = AUDIT_GENESIS_HASH;
    for (const event of events) expect(event.hash).toBe((hash = auditHash(hash, event)));
    const actions = events.map(({ action }) => action);
    const sealed = actions.indexOf('server.seal');
    expect(events[sealed]).toMatchObject({ detail: { sealReason: 'a test' } });
    expect(events[sealed]?.actor).toMatch(/^token:/);
    const suspended = events.findLast(({ action }) => action === 'license.suspend');
    expect(suspended).toMatchObject({ detail: { reason: 'withheld' } });
    expect(actions.slice(sealed)).toEqual(
      expect.arrayContaining(['license.suspend', 'license.reinstate', 'server.unseal']),
    );
    // What was told while nobody could sign is under the next checkpoint.
    const { checkpoint } = await sold.client.auditCheckpoint();
    expect(Number(checkpoint.split('\n')[1])).toBe(events.length);
  });

  it('is not sealed by a request for another one, or without the permission', async () => {
    const request = { organizationId: 'org_other', reason: 'a test' };
    expect(await codeOf(adminClient(server).seal(request))).toBe('STATE_PRECONDITION');
    const { token } = await sold.client.createToken({ name: 'seller', permissionSet: 'license-admin' });
    const { organizationId } = await sealClient().status();
    const seller = adminClient(server, token);
    expect(await codeOf(seller.seal({ organizationId, reason: 'a test' }))).toBe('AUTH_FORBIDDEN');
    expect(await sealClient().status()).toMatchObject({ isSealed: false });
  });

  it('is unsealed once by many who come at once, and forgets at once for many who seal', async () => {
    await Promise.all([sealServer(), sealServer(), sealServer()]);
    const key = await rootKey();
    const wrong = sealClient().unseal({ rootKey: 'f'.repeat(64) });
    const answers = await Promise.allSettled([
      ...[1, 2, 3].map(() => sealClient().unseal({ rootKey: key })),
      wrong,
    ]);
    expect(answers.slice(0, 3).map(({ status }) => status)).toEqual(Array(3).fill('fulfilled'));
    expect((await node.acquire(sold.image)).imageKeyJwe).not.toBe('');
  });
});

describe('latchkey server', () => {
  const run = (...args: string[]) =>
    runLatchkey(['server', ...args], {
      directory: server.dataDirectory,
      env: {
        LATCHKEY_SERVER: server.adminUrl,
        LATCHKEY_TOKEN_FILE: join(server.dataDirectory, 'admin.token'),
      },
    });

  it('shows the state, seals and unseals', async () => {
    expect((await run('status')).stdout).toContain('unsealed');
    expect((await run('seal', '--reason', 'a drill')).stdout).toMatch(/state +sealed/);
    expect(JSON.parse((await run('status', '--json')).stdout)).toMatchObject({ isSealed: true });
    const missing = await run('unseal', '--root-key', 'nothing');
    expect(missing).toMatchObject({ status: 77, stdout: '' });
    expect(missing.stderr).toMatch(/^latchkey: KEY_NOT_FOUND: there is no root key in nothing; .+\n$/);
    const wrong = await run('unseal', '--root-key', 'admin.token');
    expect(wrong).toMatchObject({ status: 65, stdout: '' });
    expect(wrong.stderr).toMatch(/^latchkey: KEY_INVALID: admin\.token holds no root key, .+\n$/);
    expect((await run('unseal', '--root-key', 'root.key')).stdout).toContain('unsealed');
  });
});

describe('a key server that starts sealed', () => {
  const restart = async (...args: string[]) => {
    await server.stop();
    const addresses = [
      ...['--admin-listen', new URL(server.adminUrl).host],
      ...['--node-listen', server.nodeAddress, '--enroll-listen', server.enrollAddress],
    ];
    const { dataDirectory } = server;
    server = await startKeyServer({ dataDirectory, args: [...addresses, '--sealed', ...args] });
  };

  it('tells nodes so under the certificate of before, and serves them once it is unsealed', async () => {
    const file = join(server.dataDirectory, 'node-listener.pem');
    expect((await stat(file)).mode & 0o077).toBe(0);
    await restart();
    expect(await ready()).toEqual([503, { status: 'not-ready', reason: 'DENIED_SEALED' }]);
    const again = connectNode(server, node.key, node.activation.certificateDer);
    const acquire = () =>
      codeOf(
        new Promise((resolve, reject) => {
          const request = { ...sold.image, nonce: Buffer.alloc(16, 7), nodeTimeMs: Date.now() };
          again.acquireLease({ ...request, position: undefined }, (error, answer) => {
            if (error === null) resolve(answer);
            else reject(fromGrpcError(error, 'key server'));
          });
        }),
      );
    expect(await acquire()).toBe('DENIED_SEALED');
    await sealClient().unseal({ rootKey: await rootKey() });
    expect(await acquire()).toBe('OK');
    again.close();
  });

  it('listens to nodes from the unsealing on when there is no certificate', async () => {
    await rm(join(server.dataDirectory, 'node-listener.pem'));
    await restart();
    expect(await codeOf(activateNode(server, licenseKey))).toBe('NET_UNREACHABLE');
    await sealClient().unseal({ rootKey: await rootKey() });
    const activated = await activateNode(server, licenseKey);
    expect((await activated.acquire(sold.image)).imageKeyJwe).not.toBe('');
    activated.close();
  });
});

it('refuses a flood of attempts to unseal', async () => {
  await sealServer();
  const codes = new Set<string>();
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const response = await fetch(`${server.adminUrl}/v1/sys/unseal`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ rootKey: '0'.repeat(64) }),
    });
    codes.add(((await response.json()) as { code: string }).code);
  }
  expect([...codes].sort()).toEqual(['KEY_INVALID', 'RATE_LIMITED']);
});
