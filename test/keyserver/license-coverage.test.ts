import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LicenseRequest } from '#src/wire/admin/license.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import {
  type RegisteredImage,
  type SoldProduct,
  createSoldProduct,
  randomDigest,
  registerImage,
  sealImageKey,
} from '../fakes/sold-product.ts';
import { statementTextFor } from '../fakes/release-statement.ts';

let server: TestKeyServer;
let sold: SoldProduct;

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(() => server.dispose());

/** Starts the product's image, version 1.0.0 unless another is given, under a new license. */
async function startUnder(terms: Partial<LicenseRequest>, image = sold.image): Promise<string> {
  const { client, customerId: customer, productCode: product } = sold;
  const { licenseKey } = await client.createLicense({ customer, product, ...terms });
  const node = await activateNode(server, licenseKey);
  try {
    await node.acquire(image);
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

describe('entitlements', () => {
  let image: RegisteredImage;

  beforeAll(async () => {
    const terms = { version: '2.0.0', entitlementCodes: ['sso', 'audit-trail'] };
    image = await registerImage(sold.client, sold.productCode, terms);
  });

  it.each([
    [['audit-trail', 'reports', 'sso'], 'started'],
    [['sso'], 'DENIED_ENTITLEMENT_MISSING'],
    [[], 'DENIED_ENTITLEMENT_MISSING'],
    [['sso-plus', 'audit-trail'], 'DENIED_ENTITLEMENT_MISSING'],
  ])('a license with %o: %s', async (entitlements, outcome) => {
    expect(await startUnder({ entitlements }, image)).toBe(outcome);
    expect(await startUnder({ entitlements })).toBe('started');
  });

  it('are shown with license and release, each once', async () => {
    const { license } = await sold.sell({ entitlements: ['sso', 'audit-trail', 'sso'] });
    expect(license.entitlements).toEqual(['audit-trail', 'sso']);
    const { license: none } = await sold.sell();
    expect(none.entitlements).toEqual([]);
    const release = (await sold.client.releases()).find(({ imageKeyId }) => imageKeyId === image.imageKeyId);
    expect(release?.entitlementCodes).toEqual(['audit-trail', 'sso']);
  });

  it('of a registered release do not change when it is registered again', async () => {
    const { client, productCode } = sold;
    const { id: organizationId } = await client.organization();
    const imageKeyId = `ik-${randomBytes(8).toString('hex')}`;
    const { imageDigest } = {
      imageDigest: image.imageDigest.replace(/.{8}$/, 'f00dcafe') as typeof image.imageDigest,
    };
    const release = {
      ...{ productCode, repository: 'r', version: '3', imageKeyId, imageDigests: [imageDigest] },
      sealedImageKey: await sealImageKey(client, imageKeyId, image.imageKey),
      statement: statementTextFor(imageDigest, { productCode, organizationId, imageKeyId }),
    };
    await client.registerRelease({ ...release, entitlementCodes: ['sso', 'b'] });
    await client.registerRelease({ ...release, entitlementCodes: ['b', 'sso'] });
    for (const entitlementCodes of [[], ['sso'], undefined]) {
      await expect(client.registerRelease({ ...release, entitlementCodes })).rejects.toMatchObject({
        code: 'STATE_CONFLICT',
      });
    }
  });

  it('are those of the image that a release is made from, if it is one of the same product', async () => {
    const { client, productCode } = sold;
    const derivedFrom = image.imageDigest;
    const derived = await registerImage(client, productCode, { derivedFrom });
    const entitlements = ['audit-trail', 'sso'];
    expect(await startUnder({ entitlements: ['sso'] }, derived)).toBe('DENIED_ENTITLEMENT_MISSING');
    expect(await startUnder({ entitlements }, derived)).toBe('started');
    const free = await registerImage(client, productCode, { derivedFrom, entitlementCodes: [] });
    expect(await startUnder({}, free)).toBe('started');
    const { productCode: other } = await createSoldProduct(server);
    const refused = { code: 'STATE_NOT_FOUND' };
    await expect(registerImage(client, other, { derivedFrom })).rejects.toMatchObject(refused);
    await expect(registerImage(client, productCode, { derivedFrom: randomDigest() })).rejects.toMatchObject(
      refused,
    );
  });

  it.each([['SSO'], ['a b'], [''], ['x'.repeat(64)]])('are plain codes, not %j', async (code) => {
    await expect(sold.sell({ entitlements: [code] })).rejects.toMatchObject({ code: 'USAGE_INVALID' });
  });
});
