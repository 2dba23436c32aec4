/** Tokens for one product or one customer: what is outside is as if it were not there. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { License } from '#src/wire/admin/license.ts';
import type { TokenInput } from '#src/wire/admin/api-token.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type SoldProduct, adminClient, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let own: SoldProduct;
let foreign: SoldProduct;
let ownLicense: License;
let foreignLicense: License;

beforeAll(async () => {
  server = await startKeyServer();
  [own, foreign] = [await createSoldProduct(server), await createSoldProduct(server)];
  ({ license: ownLicense } = await own.sell());
  ({ license: foreignLicense } = await foreign.sell());
});

afterAll(() => server.dispose());

async function tokenFor(input: Omit<TokenInput, 'name'>): Promise<string> {
  return (await own.client.createToken({ name: 'part', ...input })).token;
}

const parts = () =>
  [
    { product: own.productCode, permissionSet: 'license-admin' },
    { customer: own.customerId, permissionSet: 'license-admin' },
    { product: own.productCode, customer: own.customerId, permissionSet: 'license-admin' },
  ] as const;

describe('a token for a part of the organization', () => {
  it('lists what is its own', async () => {
    for (const part of parts()) {
      const client = adminClient(server, await tokenFor(part));
      expect((await client.licenses()).map(({ id }) => id)).toEqual([ownLicense.id]);
      expect((await client.products()).map(({ code }) => code)).toEqual([own.productCode]);
      expect((await client.customers()).map(({ id }) => id)).toEqual([own.customerId]);
      expect((await client.releases()).map(({ productCode }) => productCode)).toEqual([own.productCode]);
    }
  });

  it('sees nothing with a product of the one and a customer of the other', async () => {
    const token = await tokenFor({
      product: own.productCode,
      customer: foreign.customerId,
      permissionSet: 'customer-support',
    });
    expect(await adminClient(server, token).licenses()).toEqual([]);
  });

  it('answers the same for what is foreign and what is unknown', async () => {
    const foreignRelease = (await own.client.releases()).find(
      ({ productCode }) => productCode === foreign.productCode,
    )!;
    const requests: [string, string, string][] = [
      ['GET', '/v1/products/:id', foreign.productCode],
      ['GET', '/v1/releases/:id', foreignRelease.id],
      ['GET', '/v1/licenses/:id', foreignLicense.id],
      ['GET', '/v1/customers/:id', foreign.customerId],
      ['GET', '/v1/licenses/:id/nodes', foreignLicense.id],
      ['GET', '/v1/licenses/:id/offline-bundles', foreignLicense.id],
      ['POST', '/v1/licenses/:id:check-out', foreignLicense.id],
      ['PATCH', '/v1/licenses/:id', foreignLicense.id],
      ['POST', '/v1/licenses/:id:renew', foreignLicense.id],
      ['POST', '/v1/licenses/:id:suspend', foreignLicense.id],
      ['POST', '/v1/licenses/:id:revoke', foreignLicense.id],
      ['POST', '/v1/licenses/:id/join-tokens', foreignLicense.id],
    ];
    for (const part of parts()) {
      const token = await tokenFor(part);
      const answer = async (method: string, path: string, id: string) => {
        const response = await fetch(server.adminUrl + path.replace(':id', id), {
          method,
          headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
          ...(method !== 'GET' ? { body: path.endsWith(':check-out') ? '{"requests":["r"]}' : '{}' } : {}),
        });
        return [response.status, (await response.text()).replaceAll(id, 'ID')];
      };
      for (const [method, path, id] of requests) {
        const told = await answer(method, path, id);
        expect(told[0], path).toBe(404);
        expect(told, path).toEqual(await answer(method, path, 'unknown'));
      }
    }
    expect((await foreign.client.licenses()).find(({ id }) => id === foreignLicense.id)?.state).toBe(
      'PENDING',
    );
  });

  it('registers no release and makes no image key of another product', async () => {
    const token = await tokenFor({ product: own.productCode, permissionSet: 'release' });
    const mint = (productCode: string) =>
      fetch(`${server.adminUrl}/v1/image-keys`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ productCode }),
      });
    expect((await mint(own.productCode)).status).toBe(201);
    expect((await mint(foreign.productCode)).status).toBe(404);
    await expect(
      adminClient(server, token).registerRelease({
        productCode: foreign.productCode,
        repository: 'r',
        version: '2',
        imageDigests: [foreign.image.imageDigest],
        imageKeyId: 'ik-x',
        sealedImageKey: 'x',
      }),
    ).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
  });

  it.each([
    { permissionSet: 'admin', product: true },
    { permissionSet: 'release', customer: true },
    { permissionSet: 'auditor', customer: true },
  ] as const)('is not made for a set that is about the organization: $permissionSet', async (wanted) => {
    const { permissionSet } = wanted;
    const input =
      'product' in wanted
        ? { permissionSet, product: own.productCode }
        : { permissionSet, customer: own.customerId };
    await expect(tokenFor(input)).rejects.toMatchObject({ code: 'USAGE_INVALID' });
  });
});

describe('the life of a token', () => {
  it('has an end, 90 days from now unless it is asked for another', async () => {
    const { apiToken } = await own.client.createToken({ name: 'season', permissionSet: 'auditor' });
    expect(apiToken.expiresAtMs! - apiToken.createdAtMs).toBe(90 * 86_400_000);
    await expect(
      own.client.createToken({ name: 'long', permissionSet: 'auditor', lifetimeMs: 400 * 86_400_000 }),
    ).rejects.toMatchObject({ code: 'USAGE_INVALID' });
  });

  it('shows when it was last used', async () => {
    const { apiToken, token } = await own.client.createToken({ name: 'used', permissionSet: 'auditor' });
    expect(apiToken.lastUsedAtMs).toBeNull();
    await adminClient(server, token).products();
    const listed = (await own.client.tokens()).find(({ id }) => id === apiToken.id)!;
    expect(listed.lastUsedAtMs).toBeGreaterThanOrEqual(apiToken.createdAtMs);
  });
});
