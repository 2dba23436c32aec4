import { afterAll, beforeAll, expect, it } from 'vitest';
import type { LicenseRequest } from '#src/wire/admin/license.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(() => server.dispose());

/** Starts the product's image, version 1.0.0, under a new license. */
async function startUnder(terms: Partial<LicenseRequest>): Promise<string> {
  const { client, customerId: customer, productCode: product } = sold;
  const { licenseKey } = await client.createLicense({ customer, product, ...terms });
  const node = await activateNode(server, licenseKey);
  try {
    await node.acquire(sold.image);
    return 'started';
  } catch (error) {
    return (error as { code: string }).code;
  } finally {
    node.close();
  }
}

it.each([
  [{ versionConstraint: '^1' }, 'started'],
  [{ versionConstraint: '>=2' }, 'DENIED_VERSION_NOT_COVERED'],
  [{ maintenanceUntilMs: 4_000_000_000_000 }, 'started'],
  [{ maintenanceUntilMs: 1_000_000_000_000 }, 'DENIED_VERSION_NOT_COVERED'],
] as const)('under %o: %s', async (terms, outcome) => {
  expect(await startUnder(terms)).toBe(outcome);
});

it('refuses a range that cannot be read', async () => {
  expect(await startUnder({ versionConstraint: 'newest' }).catch((error: unknown) => error)).toMatchObject({
    message: expect.stringContaining('semver range') as string,
  });
});
