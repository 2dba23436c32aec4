/** Several key servers on one PostgreSQL, each in a process and a directory of its own: what one alone may do, one does. */
import { randomBytes, sign } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '#src/crypto/audit-checkpoint.ts';
import { parseVerifierKey } from '#src/crypto/signed-note.ts';
import { nodeProofStatement } from '#src/licensing/node-proof.ts';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { againstCheckpoints, readCheckpoints } from '../../cli/audit-checkpoints.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { FORGETFUL, type TestPostgres, postgresSkipReason, startPostgres } from '../../lab/postgres.ts';
import { authenticateAt, challengeAt } from '../../shim/agent/key-server.ts';
import { LicensedNode, activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

const SERVERS = 3;

const skipReason = postgresSkipReason();
let postgres: TestPostgres;
let databaseUrl: string;
let directory: string;
let rootKeyFile: string;
let checkpoints: string;
let servers: TestKeyServer[] = [];
let adminToken: string;
let sold: SoldProduct;

function start(name: string): Promise<TestKeyServer> {
  return startKeyServer({
    dataDirectory: join(directory, name),
    args: ['--root-key', rootKeyFile, '--audit-checkpoints', checkpoints],
    env: { ...process.env, LATCHKEY_DATABASE: databaseUrl },
  });
}

beforeAll(async () => {
  if (skipReason !== null) return;
  directory = await mkdtemp(join(tmpdir(), 'latchkey-processes-'));
  rootKeyFile = join(directory, 'root.key');
  checkpoints = join(directory, 'checkpoints');
  await writeFile(rootKeyFile, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
  postgres = await startPostgres({ settings: FORGETFUL });
  databaseUrl = await postgres.createDatabase('latchkey');
  // The first start of all of them, on an empty database.
  servers = await Promise.all(Array.from({ length: SERVERS }, (_, index) => start(`server-${index}`)));
  const founders = servers.filter((server) => server.adminToken !== '');
  adminToken = founders[0]?.adminToken ?? '';
  sold = await createSoldProduct({ ...servers[0]!, adminToken });
});

afterAll(async () => {
  if (skipReason !== null) return;
  for (const server of servers) await server.dispose();
  await postgres.dispose();
  await rm(directory, { recursive: true, force: true });
});

async function rows(sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  const result = await client.query<Record<string, unknown>>(sql);
  await client.end();
  return result.rows;
}

describe.skipIf(skipReason !== null)('several key servers', () => {
  it('that start at once on an empty database make one organization, with one admin token', async () => {
    expect(await rows('select id from organization')).toHaveLength(1);
    expect(await rows('select id from api_token')).toHaveLength(1);
    expect(servers.filter((server) => server.adminToken !== '')).toHaveLength(1);
    const organizations = await Promise.all(
      servers.map((server) => adminClient(server, adminToken).organization()),
    );
    expect(new Set(organizations.map(({ id }) => id)).size).toBe(1);
    const actions = (await auditLog(sold.client)).map(({ action }) => action);
    for (const once of ['organization.create', 'organization.audit-key']) {
      expect(actions.filter((action) => action === once)).toHaveLength(1);
    }
  });

  it('take the challenges of each other, and each challenge once', async () => {
    const [issuer, ...others] = servers;
    const node = await activateNode(issuer!, (await sold.sell()).licenseKey);
    node.close();
    const { nodeId } = node.activation;
    const nonce = await challengeAt(issuer!.enrollAddress, issuer!.authorityPem);
    const { requestDer } = await createNodeKey();
    const signature = sign('sha256', nodeProofStatement({ nodeId, certificateRequest: requestDer, nonce }), {
      key: node.key.privateKey,
      dsaEncoding: 'ieee-p1363',
    });
    const answers = await Promise.allSettled(
      [...others, issuer!].map(({ enrollAddress, authorityPem }) =>
        authenticateAt(enrollAddress, authorityPem, {
          nodeId,
          nonce,
          certificateRequestDer: requestDer,
          signature,
        }),
      ),
    );
    expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const answer of answers) {
      if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ code: 'STATE_CONFLICT' });
    }
  });

  it('know the nonces that the others have answered', async () => {
    const node = await activateNode(servers[0]!, (await sold.sell()).licenseKey);
    const everywhere = servers.map((server) => new LicensedNode(server, node.key, node.activation));
    const request = { ...sold.image, nonce: randomBytes(16) };
    const answers = await Promise.allSettled(everywhere.map((connection) => connection.acquire(request)));
    for (const connection of [node, ...everywhere]) connection.close();
    const leases = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value.lease] : []));
    const claims = await Promise.all(leases.map((lease) => node.claimsOf(lease)));
    // Of three, one has got it, one has got it again, and one was too many.
    expect(claims).toHaveLength(2);
    expect(claims[1]?.leaseId).toBe(claims[0]?.leaseId);
    const [refused] = answers.flatMap((answer) =>
      answer.status === 'rejected' ? [answer.reason as unknown] : [],
    );
    expect(refused).toMatchObject({ code: 'DENIED_REPLAY' });
  });

  it('keep their checkpoints in one directory, which ends with the newest', async () => {
    const clients = servers.map((server) => adminClient(server, adminToken));
    const { verifierKey } = await clients[0]!.auditCheckpoint();
    const verifier = parseVerifierKey(verifierKey);
    const latest = async () => {
      const note = await readFile(join(checkpoints, 'latest.checkpoint'), 'utf8');
      return openCheckpoint(note, verifier, 'latest').size;
    };
    for (let round = 0; round < 10; round += 1) {
      await Promise.all(
        clients.map((client, index) => client.createCustomer({ name: `c${round}-${index}` })),
      );
    }
    for (const client of clients) expect((await client.auditCheckpoint()).verifierKey).toBe(verifierKey);
    await expect.poll(latest, { timeout: 60_000 }).toBe((await auditLog(clients[0]!)).length);
    const kept = await readCheckpoints(checkpoints, verifier);
    await verifyAuditLog(againstCheckpoints(clients[1]!.auditEvents(), kept));
  });

  it('destroy an image key that is due once, though all look for it when they start', async () => {
    const { imageKeyId } = sold.image;
    await sold.client.scheduleDestruction(imageKeyId, {});
    for (const server of servers) await server.stop();
    await rows(`update image_key set destroy_at_ms = 1 where id = '${imageKeyId}'`);
    servers = await Promise.all(servers.map((_, index) => start(`server-${index}`)));
    const client = adminClient(servers[0]!, adminToken);
    expect(await client.imageKey(imageKeyId)).toMatchObject({ state: 'DESTROYED' });
    const events = (await auditLog(client)).filter(({ action }) => action === 'image-key.destroy');
    expect(events).toHaveLength(1);
  });
});
