/** Tags and metadata of licenses, on the real server. */
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { MAX_METADATA_BYTES, MAX_METADATA_ENTRIES, MAX_TAGS } from '#src/base/limits.ts';
import type { LicenseRequest, LicenseUpdate } from '#src/wire/admin/license.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { AgentNode } from '../fakes/agent-node.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { activateNode, createNodeKey } from '../fakes/licensed-node.ts';
import { offlineRequest } from '../fakes/offline-node.ts';
import { type SoldProduct, auditLog, createSoldProduct } from '../fakes/sold-product.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const WAIT = { timeout: 60_000, interval: 50 };

const directory = temporaryDirectory();
let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(() => server.dispose());

const ids = (items: readonly { readonly id: string }[]) => items.map(({ id }) => id);
const many = (count: number) => Array.from({ length: count }, (_, index) => `t${index}`);
const entries = (count: number) => Object.fromEntries(many(count).map((key) => [key, 'v']));

describe('tags', () => {
  it('are kept in order and once, and lists are found by them', async () => {
    const { license: first } = await sold.sell({ tags: ['pilot', 'a/b', 'pilot', 'a.b', 'region:eu'] });
    const { license: second } = await sold.sell({ tags: ['pilot'] });
    const { license: plain } = await sold.sell();
    expect(first.tags).toEqual(['a.b', 'a/b', 'pilot', 'region:eu']);
    expect(plain).toMatchObject({ tags: [], metadata: {} });
    expect(await sold.client.licenses({ tag: 'pilot' })).toEqual([first, second]);
    expect(ids(await sold.client.licenses({ tag: 'pilot', order: 'desc', limit: 1 }))).toEqual([second.id]);
    expect(ids(await sold.client.licenses({ tag: 'region:eu', state: 'PENDING' }))).toEqual([first.id]);
    expect(await sold.client.licenses({ tag: 'pilo' })).toEqual([]);
    expect((await sold.client.updateLicense(first.id, { tags: ['b', 'a'] })).tags).toEqual(['a', 'b']);
    expect(ids(await sold.client.licenses({ tag: 'pilot' }))).toEqual([second.id]);
    expect((await sold.client.updateLicense(second.id, { tags: null })).tags).toEqual([]);
  });

  it('go on at a cursor of the same tag only', async () => {
    for (let count = 0; count < 3; count++) await sold.sell({ tags: ['page', 'other'] });
    const page = async (query: string) => {
      const response = await fetch(`${server.adminUrl}/v1/licenses?limit=2&${query}`, {
        headers: { authorization: `Bearer ${server.adminToken}` },
      });
      return (await response.json()) as { items?: { id: string }[]; nextAfter?: string; code?: string };
    };
    const { items, nextAfter = '' } = await page('tag=page');
    expect(items).toHaveLength(2);
    expect((await page(`tag=page&after=${nextAfter}`)).items).toHaveLength(1);
    expect((await page(`tag=other&after=${nextAfter}`)).code).toBe('USAGE_INVALID');
  });
});

describe('metadata', () => {
  it('is changed entry by entry', async () => {
    const { license } = await sold.sell({ metadata: { order: '4711', seller: 'Zoë' } });
    expect(license.metadata).toEqual({ order: '4711', seller: 'Zoë' });
    const change = (metadata: LicenseUpdate['metadata']) =>
      sold.client.updateLicense(license.id, { metadata });
    expect((await change({ order: '4712', crm: 'x=y' })).metadata).toEqual({
      ...{ crm: 'x=y', order: '4712', seller: 'Zoë' },
    });
    expect((await change({ seller: null, unknown: null })).metadata).toEqual({ crm: 'x=y', order: '4712' });
    expect((await change(null)).metadata).toEqual({});
  });

  it('has a limit, however it is reached', async () => {
    const { license } = await sold.sell({ metadata: entries(MAX_METADATA_ENTRIES) });
    const change = (metadata: LicenseUpdate['metadata']) =>
      sold.client.updateLicense(license.id, { metadata });
    await expect(change({ more: 'v' })).rejects.toMatchObject({ code: 'USAGE_INVALID' });
    expect((await change({ t0: null, more: 'v' })).metadata).toHaveProperty('more');
    const large = Object.fromEntries(many(9).map((key) => [key, 'ü'.repeat(MAX_METADATA_BYTES / 16)]));
    await expect(change(large)).rejects.toMatchObject({
      message: expect.stringContaining(`${MAX_METADATA_BYTES} bytes`) as string,
    });
  });
});

it.each<[string, Partial<LicenseRequest>]>([
  ['a tag with a space', { tags: ['a b'] }],
  ['a tag in capitals', { tags: ['EU'] }],
  ['an empty tag', { tags: [''] }],
  ['too many tags', { tags: many(MAX_TAGS + 1) }],
  ['an empty value', { metadata: { key: '' } }],
  ['a value that is no text', { metadata: { key: 1 as unknown as string } }],
  ['a null character', { metadata: { key: 'a\0b' } }],
  ['a key that objects have anyway', { metadata: JSON.parse('{"__proto__":"x"}') as Record<string, string> }],
  ['too many entries', { metadata: entries(MAX_METADATA_ENTRIES + 1) }],
  ['too long a value', { metadata: { key: 'x'.repeat(501) } }],
])('%s is refused', async (_what, terms) => {
  const before = ids(await sold.client.licenses());
  await expect(sold.sell(terms)).rejects.toMatchObject({ code: 'USAGE_INVALID' });
  expect(ids(await sold.client.licenses())).toEqual(before);
});

describe('a change of them', () => {
  it('is a new version of the license, but voids nothing', async () => {
    const { license, licenseKey } = await sold.sell({ tags: ['a'] });
    const node = await activateNode(server, licenseKey);
    const { leaseId } = decodeJwt<{ leaseId: string }>((await node.acquire(sold.image)).lease);
    const { epoch } = await sold.client.license(license.id);
    const changed = await sold.client.updateLicense(license.id, { tags: ['b'], metadata: { order: '1' } });
    expect(changed.epoch).toBe(epoch);
    expect(changed.revision).toBeGreaterThan(license.revision);
    const again = await sold.client.updateLicense(license.id, { tags: ['b'], metadata: { order: '1' } });
    expect(again.revision).toBe(changed.revision);
    const [renewed] = (await node.renew([leaseId])).results;
    expect(renewed!.outcome?.$case).toBe('lease');
    const withTerms = await sold.client.updateLicense(license.id, { tags: ['c'], maxNodes: 9 });
    expect(withTerms.epoch).toBe(epoch + 1);
    node.close();
  });

  it('reaches the agents of its nodes as a change that takes nothing from them', async () => {
    const { license, licenseKey } = await sold.sell();
    const node = await AgentNode.start({ directory: directory(), keyServer: server });
    try {
      await node.agent.activate(licenseKey);
      const lease = await node.lease(sold.image);
      const { revision } = await sold.client.updateLicense(license.id, { tags: ['a'] });
      await vi.waitFor(async () => {
        const [known] = await sold.client.licenseNodes(license.id);
        expect(known).toMatchObject({ hasAcknowledged: true, acknowledgedRevision: revision });
      }, WAIT);
      expect(await node.lease(sold.image)).toBe(lease);
    } finally {
      node.stop();
    }
  });

  it('is refused when somebody else was faster', async () => {
    const { license } = await sold.sell({ tags: ['a'] });
    const patch = (tag: string) =>
      fetch(`${server.adminUrl}/v1/licenses/${license.id}`, {
        method: 'PATCH',
        headers: {
          authorization: `Bearer ${server.adminToken}`,
          'content-type': 'application/json',
          'if-match': `"${license.revision}"`,
        },
        body: JSON.stringify({ tags: [tag] }),
      });
    expect([(await patch('b')).status, (await patch('c')).status]).toEqual([200, 412]);
    expect((await sold.client.license(license.id)).tags).toEqual(['b']);
  });
});

it('nobody but the vendor hears of them: no node, and not the audit log', async () => {
  const [tag, note] = ['marker-tag', 'marker-note'];
  const since = (await auditLog(sold.client)).at(-1)?.sequence;
  const { license, licenseKey } = await sold.sell({ tags: [tag], metadata: { [note]: note } });
  const node = await activateNode(server, licenseKey);
  const acquired = await node.acquire(sold.image);
  const { leaseId } = decodeJwt<{ leaseId: string }>(acquired.lease);
  const { file } = await sold.client.checkOut(license.id, {
    requests: [offlineRequest(await createNodeKey('node-2'))],
  });
  await sold.client.updateLicense(license.id, { tags: [`${tag}-2`], metadata: { [note]: `${note}-2` } });
  const told = JSON.stringify([
    ...[node.activation, acquired, await node.renew([leaseId]), await node.preflight(sold.image.imageDigest)],
    ...[file, file.bundles.map(({ token }) => decodeJwt(token))],
    decodeJwt(acquired.lease),
  ]);
  node.close();
  expect(told).toContain(license.id);
  expect(told).not.toContain('marker');
  const events = await auditLog(sold.client, since);
  expect(events.find(({ action }) => action === 'license.update')?.detail).toMatchObject({
    changed: ['tags', 'metadata'],
  });
  expect(JSON.stringify(events)).not.toContain('marker');
});

it('commands set, show and find them', async () => {
  const create = ['license', 'create', '--customer', sold.customerId, '--product', sold.productCode];
  const created = await adminCommand(
    server,
    ...[...create, '--tag', 'cli', '--tag', 'eu', '--metadata', 'order=47=11', '--metadata', 'by=me'],
  );
  const [id = ''] = /lic_[0-9a-f-]+/u.exec(created) ?? [];
  expect(await adminCommand(server, 'license', 'show', id)).toMatch(
    /tags +cli, eu\nmetadata +by=me\nmetadata +order=47=11\n/u,
  );
  const [update, list] = [
    ['license', 'update', id],
    ['license', 'list', '--tag'],
  ] as const;
  expect(await adminCommand(server, ...list, 'cli')).toContain(id);
  await adminCommand(server, ...update, '--tag', 'us', '--metadata', 'by=');
  expect(await adminCommand(server, ...list, 'cli')).not.toContain(id);
  expect(await adminCommand(server, 'license', 'show', id)).toMatch(/tags +us\nmetadata +order=47=11\n/u);
  await adminCommand(server, ...update, '--no-tag', '--no-metadata');
  expect(await adminCommand(server, 'license', 'show', id)).not.toMatch(/^(?:tags|metadata)/mu);
  expect(await adminCommand(server, ...create, '--tag', 'E U')).toMatch(/USAGE_INVALID: .*region:eu/u);
  expect(await adminCommand(server, ...create, '--metadata', 'order')).toMatch(
    /USAGE_INVALID: .*KEY=VALUE/iu,
  );
  expect(await adminCommand(server, ...create, '--metadata', 'order=')).toMatch(/USAGE_INVALID: .*value/u);
});
