import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingHttpHeaders, type Server, createServer } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WebhookEndpoint } from '#src/wire/admin/webhook.ts';
import { WebhookClient } from '../../cli/webhook-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { changeServerDatabase } from '../../lab/server-database.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

/** For machines that are busy with other tests. */
const PATIENTLY = { timeout: 60_000 };
const WEEK_MS = 7 * 86_400_000;

interface Delivery {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly event: { type: string; data: { sequence: number; target: string } };
}

let server: TestKeyServer;
let sold: SoldProduct;
let receiver: Server;
let receiverUrl: string;
/** What the receiver answers with. */
let answer: { status: number; location?: string } = { status: 204 };
let deliveries: Delivery[] = [];

const client = () => new WebhookClient({ serverUrl: server.adminUrl, token: server.adminToken });
const create = (path: string, ...events: string[]) => client().create({ url: receiverUrl + path, events });
const find = async ({ id }: WebhookEndpoint) => (await client().endpoints()).find((each) => each.id === id);
const of = (path: string) => deliveries.filter((delivery) => delivery.path === path);
const restart = async (...args: string[]) => {
  server = await startKeyServer({ dataDirectory: server.dataDirectory, args });
  sold = { ...sold, client: adminClient(server) };
};
const sell = async () => {
  const terms = { customer: sold.customerId, product: sold.productCode };
  return sold.client.createLicense(terms);
};

beforeAll(async () => {
  receiver = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      const { url: path = '', headers } = request;
      const { status, location } = answer;
      if (status < 300)
        deliveries.push({ path, headers, body, event: JSON.parse(body) as Delivery['event'] });
      response.writeHead(status, location === undefined ? {} : { location }).end();
    });
  }).listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  receiverUrl = `http://127.0.0.1:${(receiver.address() as { port: number }).port}`;
  server = await startKeyServer({ args: ['--webhook-allow-private'] });
  sold = await createSoldProduct(server);
});

afterAll(async () => {
  await server.dispose();
  receiver.close();
});

describe('a webhook endpoint', () => {
  it('hears of the events it wants from its creation on, signed with the secret that was shown once', async () => {
    await sell();
    const { webhookEndpoint, secret } = await create('/signed', 'license.revoke', 'lease.acquire.denied');
    const { license, licenseKey } = await sell();
    const node = await activateNode(server, licenseKey);
    await node.acquire(sold.image);
    await sold.client.changeLicense(license.id, 'revoke', 'secret reason');
    await expect(node.acquire(sold.image)).rejects.toMatchObject({ code: 'DENIED_LICENSE_REVOKED' });
    node.close();
    await expect.poll(() => of('/signed'), PATIENTLY).toHaveLength(2);
    const [revoked, denied] = of('/signed');
    expect([revoked, denied].map((each) => each?.event.type)).toEqual([
      'license.revoke',
      'lease.acquire.denied',
    ]);
    expect(revoked?.event.data.target).toBe(license.id);
    expect(revoked?.body).not.toMatch(/reason|detail/u);
    const { headers, body } = revoked!;
    const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`;
    const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
    expect(headers['webhook-signature']).toBe(
      `v1,${createHmac('sha256', key).update(signed).digest('base64')}`,
    );
    await expect
      .poll(async () => (await client().attempts(webhookEndpoint.id)).map(({ status }) => status), PATIENTLY)
      .toEqual([204, 204]);
    expect(JSON.stringify(await client().endpoints())).not.toContain(secret);
    expect(server.log()).not.toContain(secret);
    expect(JSON.stringify(await auditLog(sold.client))).not.toContain('/signed');
  });

  it('that fails gets every event later and in order, and a redirect is not followed', async () => {
    const { webhookEndpoint } = await create('/fails', 'license.create');
    answer = { status: 302, location: '/elsewhere' };
    const ids = [(await sell()).license.id, (await sell()).license.id];
    await expect
      .poll(async () => (await client().attempts(webhookEndpoint.id)).at(-1), PATIENTLY)
      .toMatchObject({ status: 302, failure: 'it answered with status 302' });
    expect((await find(webhookEndpoint))?.failingSinceMs).not.toBeNull();
    answer = { status: 200 };
    await expect.poll(() => of('/fails').map(({ event }) => event.data.target), PATIENTLY).toEqual(ids);
    await expect.poll(async () => (await find(webhookEndpoint))?.failingSinceMs, PATIENTLY).toBeNull();
    expect(of('/elsewhere')).toEqual([]);
  });

  it('gets what it has missed once it is enabled again, and nothing once it is deleted', async () => {
    const { webhookEndpoint } = await create('/paused', 'license.create');
    await client().setState(webhookEndpoint.id, 'disable');
    const missed = (await sell()).license.id;
    await expect.poll(() => of('/fails').map(({ event }) => event.data.target), PATIENTLY).toContain(missed);
    expect(of('/paused')).toEqual([]);
    await client().setState(webhookEndpoint.id, 'enable');
    await expect.poll(() => of('/paused').map(({ event }) => event.data.target), PATIENTLY).toEqual([missed]);
    await client().delete(webhookEndpoint.id);
    const later = (await sell()).license.id;
    await expect.poll(() => of('/fails').map(({ event }) => event.data.target), PATIENTLY).toContain(later);
    expect(of('/paused')).toHaveLength(1);
    // What has arrived and is not written down yet would come again after a crash.
    const { sequence } = of('/fails').at(-1)!.event.data;
    const position = async () =>
      (await client().endpoints()).find(({ url }) => url.endsWith('/fails'))?.position;
    await expect.poll(position, PATIENTLY).toBeGreaterThanOrEqual(sequence);
  });

  it('that was deleted stays in the list, without its secret, and comes to nothing else', async () => {
    const { webhookEndpoint } = await create('/deleted', 'license.revoke');
    const { id, url } = webhookEndpoint;
    await client().delete(id);
    const tombstone = await find(webhookEndpoint);
    expect(tombstone).toMatchObject({ ...{ id, url, events: ['license.revoke'] }, state: 'DELETED' });
    expect(tombstone?.revision).toBeGreaterThan(webhookEndpoint.revision);
    expect(await client().attempts(id)).toEqual([]);
    await expect(client().setState(id, 'enable')).rejects.toMatchObject({ code: 'STATE_PRECONDITION' });
    await client().delete(id);
    expect(await find(webhookEndpoint)).toEqual(tombstone);
    const deletions = (await auditLog(sold.client)).filter(({ action }) => action === 'webhook.delete');
    expect(deletions.filter(({ target }) => target === id)).toHaveLength(1);
    const idsIn = async (state: WebhookEndpoint['state']) =>
      (await client().endpoints({ state })).map((each) => each.id);
    expect(await idsIn('DELETED')).toContain(id);
    expect(await idsIn('ENABLED')).not.toContain(id);
  });

  it('that is deleted while it is told keeps nothing of that', async () => {
    let told = 0;
    let id = '';
    const deleting = createServer((request, response) => {
      request.resume();
      told += 1;
      void client()
        .delete(id)
        .then(() => response.writeHead(204).end());
    }).listen(0, '127.0.0.1');
    await once(deleting, 'listening');
    const url = `http://127.0.0.1:${(deleting.address() as { port: number }).port}/`;
    const { webhookEndpoint } = await client().create({ url, events: ['license.create'] });
    id = webhookEndpoint.id;
    await sell();
    await expect.poll(() => told, PATIENTLY).toBe(1);
    // What was told after it has arrived elsewhere, so its own answer has been taken.
    const later = (await sell()).license.id;
    await expect.poll(() => of('/fails').map(({ event }) => event.data.target), PATIENTLY).toContain(later);
    expect(await client().attempts(id)).toEqual([]);
    expect(await find(webhookEndpoint)).toMatchObject({ state: 'DELETED', deliveredAtMs: null });
    deleting.close();
  });

  it('goes on where it was after kill -9, with the same id for the same event', async () => {
    answer = { status: 500 };
    const { license } = await sell();
    await server.kill();
    deliveries = [];
    answer = { status: 204 };
    await restart('--webhook-allow-private');
    await expect
      .poll(() => of('/fails').map(({ event }) => event.data.target), PATIENTLY)
      .toEqual([license.id]);
    const [delivery] = of('/fails');
    expect(delivery?.headers['webhook-id']).toMatch(
      new RegExp(`^org_.*-${delivery?.event.data.sequence}$`, 'u'),
    );
  });

  it('that has failed for days is disabled, which the audit log says', async () => {
    const { webhookEndpoint } = await create('/dead', 'license.create');
    await server.stop();
    const since = Date.now() - WEEK_MS;
    await changeServerDatabase(
      server.dataDirectory,
      `UPDATE webhook_endpoint SET failing_since_ms = ${since} WHERE id = '${webhookEndpoint.id}'`,
    );
    await restart('--webhook-allow-private');
    answer = { status: 410 };
    await sell();
    await expect.poll(async () => (await find(webhookEndpoint))?.state, PATIENTLY).toBe('DISABLED');
    const last = (await auditLog(sold.client)).findLast(({ action }) => action === 'webhook.disable');
    expect(last).toMatchObject({ actor: 'system', target: webhookEndpoint.id });
    answer = { status: 204 };
  });
});

describe('an endpoint for what never happens', () => {
  it.each(['license.revoked', 'licence.*'])('is not made for %s', async (kind) => {
    await expect(create('/never', kind)).rejects.toMatchObject({ code: 'USAGE_INVALID' });
  });
});

describe('without --webhook-allow-private', () => {
  it('nothing is sent to an address of this network, nor over http', async () => {
    const { port } = new URL(receiverUrl);
    const inside = ['localhost', '127.0.0.1', '[::1]'].map((host) => `https://${host}:${port}/inside`);
    const created = [];
    for (const url of [...inside, `${receiverUrl}/inside`]) {
      created.push((await client().create({ url, events: ['license.create'] })).webhookEndpoint);
    }
    await server.stop();
    deliveries = [];
    await restart();
    for (const url of [...inside.slice(1), `${receiverUrl}/inside`]) {
      await expect(client().create({ url, events: ['license.create'] })).rejects.toMatchObject({
        code: 'USAGE_INVALID',
        hint: expect.stringContaining('--webhook-allow-private') as string,
      });
    }
    await sell();
    for (const endpoint of created) {
      await expect
        .poll(async () => (await client().attempts(endpoint.id)).at(-1)?.failure, PATIENTLY)
        .toMatch(/is not an address of the internet|over https only/u);
    }
    expect(of('/inside')).toEqual([]);
  });

  it('are managed by commands', async () => {
    const place = {
      directory: server.dataDirectory,
      env: { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: server.adminToken },
    };
    const made = await runLatchkey(
      ['webhook', 'create', 'https://crm.acme.example/hook', '--event', 'license.*'],
      place,
    );
    expect(made).toMatchObject({ status: 0, stderr: '' });
    expect(made.stdout).toMatch(/shown this once:\n\n {2}whsec_[A-Za-z0-9+/]{43}=\n/u);
    const listed = await runLatchkey(['webhook', 'list'], place);
    expect(listed.stdout).toMatch(/ENABLED +license\.\* .*https:\/\/crm\.acme\.example\/hook/u);
    const wrong = await runLatchkey(['webhook', 'create', 'ftp://x', '--event', '*'], place);
    expect(wrong).toMatchObject({ status: 2, stderr: expect.stringContaining('https://') as string });
  });
});
