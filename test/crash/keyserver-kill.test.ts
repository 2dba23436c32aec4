/**
 * kill -9 under load. What the key server has acknowledged must be there when it comes back: licenses,
 * revocations, leases, audit events; and nothing may be released after an acknowledged revocation.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeJwt } from 'jose';
import { expect, it } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type RegisteredImage, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const KILLS = process.env['SLOW'] === '1' ? 200 : 15;
const MAX_LIFE_MS = 400;
const WORKERS = 4;

/** What the server has said yes to, over all its lives. */
interface Acknowledged {
  readonly licenses: string[];
  readonly revoked: Set<string>;
  readonly leases: string[];
  readonly receipts: number[];
}

interface Sold {
  readonly productCode: string;
  readonly customerId: string;
  readonly image: RegisteredImage;
}

/** Sells, starts, revokes and tries again until the server is gone. */
async function work(server: TestKeyServer, sold: Sold, acknowledged: Acknowledged): Promise<void> {
  const client = adminClient(server);
  let node: LicensedNode | null = null;
  try {
    for (;;) {
      const { license, licenseKey } = await client.createLicense({
        customer: sold.customerId,
        product: sold.productCode,
      });
      acknowledged.licenses.push(license.id);
      node?.close();
      node = await activateNode(server, licenseKey);
      for (let start = 0; start < 5; start += 1) {
        const answer = await node.acquire({
          imageDigest: sold.image.imageDigest,
          imageKeyId: sold.image.imageKeyId,
        });
        acknowledged.leases.push(decodeJwt<{ leaseId: string }>(answer.lease).leaseId);
        acknowledged.receipts.push(answer.auditSequence);
      }
      await client.changeLicense(license.id, 'revoke');
      acknowledged.revoked.add(license.id);
      const denied = await node.acquire(sold.image).then(
        () => 'a key was released after the revocation',
        (error: unknown) => (error as LatchkeyError).code,
      );
      if (denied.startsWith('NET_')) return;
      expect(denied).toBe('DENIED_LICENSE_REVOKED');
    }
  } catch (error) {
    // The server is gone in the middle of a call: nobody knows whether that one was done.
    if (!(error instanceof LatchkeyError) || !error.code.startsWith('NET_')) throw error;
  } finally {
    node?.close();
  }
}

it(`loses nothing that it has acknowledged in ${KILLS} kills`, async () => {
  let server = await startKeyServer();
  const { dataDirectory } = server;
  const { productCode, customerId, image } = await createSoldProduct(server);
  const sold: Sold = { productCode, customerId, image };
  const acknowledged: Acknowledged = { licenses: [], revoked: new Set(), leases: [], receipts: [] };
  for (let kill = 0; kill < KILLS; kill += 1) {
    const workers = Array.from({ length: WORKERS }, () => work(server, sold, acknowledged));
    // Every other life lasts until a lease was given, however slow the machine; the others end anywhere.
    if (kill % 2 === 1) await Promise.race([moreThan(acknowledged.leases), Promise.all(workers)]);
    await sleep(Math.random() * MAX_LIFE_MS);
    await server.kill();
    await Promise.all(workers);
    server = await startKeyServer({ dataDirectory });
  }
  const client = adminClient(server);
  const licenses = new Map((await client.licenses()).map((license) => [license.id, license]));
  const leases = new Set((await client.leases()).map((lease) => lease.id));
  const events = await auditLog(client);
  await verifyAuditLog(client.auditEvents());

  expect(acknowledged.licenses.filter((id) => !licenses.has(id))).toEqual([]);
  expect([...acknowledged.revoked].filter((id) => licenses.get(id)?.state !== 'REVOKED')).toEqual([]);
  expect(acknowledged.leases.filter((id) => !leases.has(id))).toEqual([]);
  expect(
    acknowledged.receipts.filter((sequence) => events[sequence - 1]?.action !== 'lease.acquire'),
  ).toEqual([]);
  expect(new Set(acknowledged.receipts).size).toBe(acknowledged.receipts.length);
  expectNoReleaseAfterRevocation(events);
  // Work must have been going on for the kills to mean anything.
  expect(acknowledged.leases.length).toBeGreaterThan(0);
  await server.dispose();
});

/** Resolves when the list has grown. */
async function moreThan(list: readonly unknown[]): Promise<void> {
  for (const { length } = list; list.length === length;) await sleep(10);
}

function expectNoReleaseAfterRevocation(events: Awaited<ReturnType<typeof auditLog>>): void {
  const revoked = new Set<string>();
  for (const event of events) {
    if (event.action === 'license.revoke') revoked.add(event.target);
    if (event.action !== 'lease.acquire' || event.outcome !== 'allowed') continue;
    const { licenseId } = event.detail as { licenseId: string };
    expect(revoked.has(licenseId), `lease of ${licenseId} after its revocation`).toBe(false);
  }
}
