import { Metadata } from '@grpc/grpc-js';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LatchkeyError } from '#src/base/errors.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import type { ReportPlaintextRequest } from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { callUnary } from '#src/wire/unary.ts';
import { formatInstant } from '../../cli/time-arguments.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
let licenseId: string;
let one: LicensedNode;
let two: LicensedNode;
let lastLease: LeaseClaims;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
  const { license, licenseKey } = await sold.sell();
  licenseId = license.id;
  one = await activateNode(server, licenseKey, { name: 'one' });
  two = await activateNode(server, licenseKey, { name: 'two' });
  await one.acquire(sold.image);
  lastLease = decodeJwt<LeaseClaims>((await two.acquire(sold.image)).lease);
  await sold.client.changeLicense(licenseId, 'revoke');
});

afterAll(async () => {
  one.close();
  two.close();
  await server.dispose();
});

async function report(node: LicensedNode, changes: Partial<ReportPlaintextRequest> = {}): Promise<void> {
  const request: ReportPlaintextRequest = {
    licenseId,
    epoch: 0,
    denialCode: 'DENIED_LICENSE_REVOKED',
    startsRefusedAtMs: 1000,
    runningContainers: 1,
    plaintextLayers: 2,
    plaintextGoneAtMs: 0,
    nodeTimeMs: 1000,
    ...changes,
  };
  await callUnary(node.client.reportPlaintext.bind(node.client), request, new Metadata(), {
    deadline: Date.now() + 60_000,
  }).catch((error: unknown) => {
    throw fromGrpcError(error, 'key server');
  });
}

const latchkey = (...args: string[]): Promise<string> => adminCommand(server, ...args);

async function reportsInAudit(): Promise<string[]> {
  const events = await auditLog(sold.client);
  return events
    .filter(({ action }) => action === 'license.acknowledge' || action === 'license.plaintext-gone')
    .map(({ action, actor }) => `${actor.slice(0, 5)} ${action}`);
}

describe('the nodes of a refused license', () => {
  test('have said nothing at first', async () => {
    expect(await latchkey('license', 'nodes', licenseId)).toMatch(
      /^revoked at revision \d+; 0 of 2 nodes have acknowledged, 0 plaintext gone/u,
    );
  });

  test('can start until their leases end, as long as they are silent', async () => {
    const nodes = await sold.client.licenseNodes(licenseId);
    expect(nodes.find(({ name }) => name === 'two')?.canStartUntilMs).toBe(lastLease.expiresAtMs);
    const until = formatInstant(lastLease.expiresAtMs);
    expect(await latchkey('license', 'show', licenseId)).toContain(`; 2 silent, can start until ${until}`);
    await report(one);
    expect(await latchkey('license', 'nodes', licenseId)).toContain(`; 1 silent, can start until ${until}`);
    const [after] = (await sold.client.licenseNodes(licenseId)).filter(({ name }) => name === 'one');
    expect(after?.canStartUntilMs).toBeNull();
  });

  test('are shown with what each has said last', async () => {
    await report(two, { runningContainers: 0, plaintextLayers: 0, plaintextGoneAtMs: 2000 });
    const text = await latchkey('license', 'nodes', licenseId);
    expect(text).toMatch(/^revoked at revision \d+; 2 of 2 nodes have acknowledged, 1 plaintext gone\n/u);
    expect(text).toMatch(/one .*2 layers/);
    expect(text).toMatch(/two .*gone 1970-01-01/);
    // A node is heard by its reports too.
    for (const { id, report: told } of await sold.client.licenseNodes(licenseId)) {
      expect((await sold.client.node(id)).lastContactAtMs).toBe(told?.reportedAtMs);
    }
    expect(await latchkey('license', 'show', licenseId)).toContain('2 of 2 nodes have acknowledged');
  });

  test('are in the audit log once, however often they repeat it', async () => {
    const before = await reportsInAudit();
    expect(before).toEqual([
      'node: license.acknowledge',
      'node: license.acknowledge',
      'node: license.plaintext-gone',
    ]);
    await report(one);
    await report(two, { runningContainers: 0, plaintextLayers: 0, plaintextGoneAtMs: 2000 });
    expect(await reportsInAudit()).toEqual(before);
  });

  test('may report although they are banned', async () => {
    const id = (await sold.client.nodes()).find(({ name }) => name === 'one')?.id ?? '';
    await sold.client.changeNode(id, 'ban');
    await report(one, { runningContainers: 0, plaintextLayers: 0, plaintextGoneAtMs: 3000 });
    expect(await latchkey('license', 'nodes', licenseId)).toContain('2 plaintext gone');
  });
});

describe('a report is refused', () => {
  test.each([
    ['without a denial', { denialCode: 'OK' }, 'INPUT_MALFORMED'],
    ['with a negative count', { runningContainers: -1 }, 'INPUT_MALFORMED'],
    ['with a time that no date can hold', { plaintextGoneAtMs: 8.7e15 }, 'INPUT_MALFORMED'],
    ['about a license of somebody else', { licenseId: 'lic_other' }, 'STATE_NOT_FOUND'],
  ])('%s', async (_title, changes, code) => {
    const error = await report(two, changes).then(
      () => undefined,
      (refused: unknown) => refused as LatchkeyError,
    );
    expect(error?.code).toBe(code);
  });
});
