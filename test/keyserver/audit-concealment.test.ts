import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { ConcealmentClient } from '../../cli/concealment-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { changeServerDatabase } from '../../lab/server-database.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const EXTERNAL_ID = 'crm-of-jane-doe';
const HOST_NAME = 'janes-laptop.initech.example';
const REASON = 'Jane Doe has not paid';

let directory: string;
let server: TestKeyServer;
let sold: SoldProduct;

const latchkey = (...args: string[]) =>
  runLatchkey(args, {
    directory,
    env: { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: server.adminToken },
  });
const concealment = ({ adminUrl, adminToken }: TestKeyServer) =>
  new ConcealmentClient({ serverUrl: adminUrl, token: adminToken });
const actionsWith = async (text: string) => {
  const concealed = await concealment(server).concealedText(text);
  const events = await auditLog(sold.client);
  return events
    .filter((event) => JSON.stringify(event.detail).includes(concealed))
    .map(({ action }) => action);
};
const suspendAnother = async () => {
  const { license } = await sold.client.createLicense({
    customer: sold.customerId,
    product: sold.productCode,
  });
  await sold.client.changeLicense(license.id, 'suspend', REASON);
};
const start = async (dataDirectory?: string) => {
  server = await startKeyServer(dataDirectory === undefined ? {} : { dataDirectory });
};
const restart = async (change: string) => {
  await server.stop();
  await changeServerDatabase(server.dataDirectory, change);
  await start(server.dataDirectory);
  sold = { ...sold, client: adminClient(server) };
};

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-concealment-'));
  await start();
  sold = await createSoldProduct(server);
  await sold.client.createCustomer({ name: 'Jane Doe', externalId: EXTERNAL_ID });
  const { license, licenseKey } = await sold.sell();
  (await activateNode(server, licenseKey, { name: HOST_NAME })).close();
  await sold.client.changeLicense(license.id, 'suspend', REASON);
  await sold.client.changeLicense(license.id, 'revoke', REASON);
  // Refused, and logged too.
  await expect(activateNode(server, licenseKey, { name: HOST_NAME })).rejects.toMatchObject({
    code: 'DENIED_LICENSE_REVOKED',
  });
});

afterAll(async () => {
  await server.dispose();
  await rm(directory, { recursive: true, force: true });
});

describe('what tells of people', () => {
  it('is not in the log in plain', async () => {
    const text = JSON.stringify(await auditLog(sold.client));
    for (const plain of [EXTERNAL_ID, HOST_NAME, REASON, 'Jane']) expect(text).not.toContain(plain);
    expect(text.match(/"hmac:[\w-]{43}"/gu)).toHaveLength(6);
  });

  it('is found by whoever may read the log and knows the text', async () => {
    expect(await actionsWith(EXTERNAL_ID)).toEqual(['customer.create']);
    expect(await actionsWith(HOST_NAME)).toEqual(['node.activate', 'node.activate']);
    expect(await actionsWith(REASON)).toEqual(['license.suspend', 'license.revoke']);
    expect(await actionsWith('Jane')).toEqual([]);
    const listed = await latchkey('audit', 'list', '--json', '--text', REASON);
    expect((JSON.parse(listed.stdout) as AuditEvent[]).map(({ action }) => action)).toEqual([
      'license.suspend',
      'license.revoke',
    ]);
  });

  it('is concealed otherwise by every organization', async () => {
    const here = await concealment(server).concealedText(REASON);
    const other = await startKeyServer();
    expect(await concealment(other).concealedText(REASON)).not.toBe(here);
    await other.dispose();
  });

  it('can be found by nobody once the key is destroyed, and the log still verifies', async () => {
    const refused = await latchkey('audit', 'shred');
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining('--yes') as string });
    expect(await actionsWith(REASON)).toHaveLength(2);
    expect(await latchkey('audit', 'shred', '--yes')).toMatchObject({ status: 0 });
    expect(await actionsWith(REASON)).toEqual([]);
    await suspendAnother();
    expect(await actionsWith(REASON)).toEqual(['license.suspend']);
    expect((await auditLog(sold.client)).map(({ action }) => action)).toContain('audit.shred');
    await verifyAuditLog(sold.client.auditEvents());
  });

  it('gets its key in a database of before there was one', async () => {
    await restart('UPDATE audit_key SET wrapped_field_key = NULL');
    expect(await actionsWith(REASON)).toEqual([]);
    await suspendAnother();
    expect(await actionsWith(REASON)).toEqual(['license.suspend']);
  });
});
