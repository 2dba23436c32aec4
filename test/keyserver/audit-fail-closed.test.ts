/** What cannot be noted in the audit log does not happen: the database refuses the event of a start and of a revocation. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type TestKeyServer, keptAddresses, startKeyServer } from '../../lab/keyserver.ts';
import { changeServerDatabase, databaseKind } from '../../lab/server-database.ts';
import { storedRows } from '../fakes/database-rows.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const ACTIONS = "('lease.acquire', 'lease.renew', 'license.revoke')";

/** SQLite takes back the one statement, PostgreSQL the transaction: a server that went on would commit the rest on the first. */
const REFUSE =
  databaseKind() === 'SQLite'
    ? `create trigger refuse_event before insert on audit_event when new.action in ${ACTIONS}
       begin select raise(abort, 'no room in the log'); end`
    : `create function refuse_event() returns trigger language plpgsql as
         $$ begin raise exception 'no room in the log'; end $$;
       create trigger refuse_event before insert on audit_event
         for each row when (new.action in ${ACTIONS}) execute function refuse_event()`;
const REFUSE_NO_MORE =
  databaseKind() === 'SQLite'
    ? 'drop trigger refuse_event'
    : 'drop trigger refuse_event on audit_event; drop function refuse_event()';

let server: TestKeyServer;
let sold: SoldProduct;
let node: LicensedNode;
let licenseId: string;
let leaseId: string;
let addresses: string[];

beforeAll(async () => {
  addresses = await keptAddresses();
  server = await startKeyServer({ args: addresses });
  sold = await createSoldProduct(server);
  const { license, licenseKey } = await sold.sell();
  licenseId = license.id;
  node = await activateNode(server, licenseKey);
  await node.acquire(sold.image);
  leaseId = (await sold.client.leases())[0]?.id ?? '';
  await restartAfter(REFUSE);
});

afterAll(async () => {
  node.close();
  await server.dispose();
});

async function restartAfter(change: string): Promise<void> {
  const { dataDirectory } = server;
  await server.stop();
  await changeServerDatabase(dataDirectory, change);
  server = await startKeyServer({ dataDirectory, args: addresses });
  sold = { ...sold, client: adminClient(server) };
}

const told = (call: Promise<unknown>) =>
  call.then(
    (answer) => ({ answer }),
    (error: unknown) => ({ code: (error as { code?: string }).code }),
  );
const leaseIds = async () => (await sold.client.leases()).map(({ id }) => id);
const actions = async () => (await auditLog(sold.client)).map(({ action }) => action);

it('gives neither key nor lease for a start that the log does not take', async () => {
  const before = await actions();
  expect(await told(node.acquire(sold.image))).toEqual({
    code: expect.stringMatching(/^[A-Z_]+$/u) as string,
  });
  expect(await told(node.renew([leaseId]))).toEqual({ code: expect.stringMatching(/^[A-Z_]+$/u) as string });
  expect(await leaseIds()).toEqual([leaseId]);
  expect(await actions()).toEqual(before);
});

it('leaves a license as it was, whose revocation the log does not take', async () => {
  const [before, events] = [await sold.client.license(licenseId), await actions()];
  const { revision } = await sold.client.organization();
  expect(await told(sold.client.changeLicense(licenseId, 'revoke', 'unpaid'))).toEqual({
    code: expect.stringMatching(/^[A-Z_]+$/u) as string,
  });
  expect(await sold.client.license(licenseId)).toEqual(before);
  expect(before.state).toBe('ACTIVE');
  expect((await sold.client.organization()).revision).toBe(revision);
  expect(await actions()).toEqual(events);
});

it('does what else it is asked for meanwhile, and all of it once the log takes it', async () => {
  await sold.client.changeLicense(licenseId, 'suspend');
  await sold.client.changeLicense(licenseId, 'reinstate');
  await restartAfter(REFUSE_NO_MORE);
  expect((await node.acquire(sold.image)).imageKeyJwe).not.toBe('');
  expect(await leaseIds()).toHaveLength(2);
  expect((await sold.client.changeLicense(licenseId, 'revoke')).state).toBe('REVOKED');
  expect((await actions()).slice(-2)).toEqual(['lease.acquire', 'license.revoke']);
  await server.stop();
  const stored = (await storedRows(server.dataDirectory)).get('lease') ?? [];
  expect(stored).toHaveLength(2);
});
