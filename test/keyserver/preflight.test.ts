/** A preflight says what a start would be told, by the side of real starts, and leaves nothing behind. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { storedRows } from '../fakes/database-rows.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import {
  type RegisteredImage,
  type SoldProduct,
  adminClient,
  createSoldProduct,
  randomDigest,
  registerImage,
} from '../fakes/sold-product.ts';

let server: TestKeyServer;
let sold: SoldProduct;
const nodes: LicensedNode[] = [];

beforeAll(async () => {
  server = await startKeyServer();
  sold = await createSoldProduct(server);
});

afterAll(async () => {
  for (const node of nodes) node.close();
  await server.dispose();
});

async function licensedNode(product = sold, terms: Parameters<SoldProduct['sell']>[0] = {}) {
  const { license, licenseKey } = await product.sell(terms);
  const node = await activateNode(server, licenseKey);
  nodes.push(node);
  return { node, license };
}

/** What somebody is told: the license, or the whole refusal. */
async function told(answer: Promise<{ licenseId: string }>): Promise<object> {
  try {
    return { allowed: true, licenseId: (await answer).licenseId };
  } catch (error) {
    const { code, message, hint, licenseId, contact } = error as LatchkeyError;
    return {
      allowed: false,
      code,
      message,
      hint: hint ?? null,
      licenseId: licenseId ?? null,
      contact: contact ?? null,
    };
  }
}

interface Situation {
  readonly name: string;
  readonly code: string | null;
  readonly image?: () => Promise<RegisteredImage>;
  readonly terms?: Parameters<SoldProduct['sell']>[0];
  readonly change?: (product: SoldProduct, licenseId: string, nodeId: string) => Promise<unknown>;
}

const SITUATIONS: readonly Situation[] = [
  { name: 'nothing in the way', code: null },
  {
    name: 'a suspended license',
    code: 'DENIED_LICENSE_SUSPENDED',
    change: ({ client }, licenseId) => client.changeLicense(licenseId, 'suspend'),
  },
  {
    name: 'a revoked license',
    code: 'DENIED_LICENSE_REVOKED',
    change: ({ client }, licenseId) => client.changeLicense(licenseId, 'revoke'),
  },
  {
    name: 'a blocked customer',
    code: 'DENIED_CUSTOMER_BLOCKED',
    change: ({ client, customerId }) => client.changeCustomer(customerId, 'block'),
  },
  {
    name: 'a banned node',
    code: 'DENIED_NODE_BANNED',
    change: ({ client }, _licenseId, nodeId) => client.changeNode(nodeId, 'ban'),
  },
  {
    name: 'a retired node',
    code: 'DENIED_NODE_RETIRED',
    change: ({ client }, _licenseId, nodeId) => client.changeNode(nodeId, 'retire'),
  },
  {
    name: 'a version that is not covered',
    code: 'DENIED_VERSION_NOT_COVERED',
    terms: { versionConstraint: '>=2' },
  },
  {
    name: 'a withdrawn release',
    code: 'DENIED_IMAGE_YANKED',
    change: async ({ client, productCode }) => {
      const releases = await client.releases();
      return client.yankRelease(releases.find((release) => release.productCode === productCode)!.id);
    },
  },
  {
    name: 'a key that is to be destroyed',
    code: 'DENIED_KEY_UNAVAILABLE',
    change: ({ client, image }) => client.scheduleDestruction(image.imageKeyId, {}),
  },
  {
    name: 'the image of another product',
    code: 'DENIED_LICENSE_NOT_FOUND',
    image: async () => (await createSoldProduct(server)).image,
  },
  {
    name: 'an image that nobody has registered',
    code: 'DENIED_IMAGE_UNKNOWN',
    image: () => Promise.resolve({ ...sold.image, imageDigest: randomDigest() }),
  },
  {
    name: 'the image key of another release',
    code: 'DENIED_PRODUCT_MISMATCH',
    image: async () => ({
      ...sold.image,
      imageKeyId: (await registerImage(sold.client, sold.productCode)).imageKeyId,
    }),
  },
];

describe('a preflight', () => {
  it.each(SITUATIONS)('says what a start is told: $name', async ({ code, image, terms, change }) => {
    const product = image === undefined ? await createSoldProduct(server) : sold;
    const { node, license } = await licensedNode(product, terms);
    const { nodeId } = node.activation;
    await change?.(product, license.id, nodeId);
    const { imageDigest, imageKeyId } = (await image?.()) ?? product.image;
    const asked = await told(node.preflight(imageDigest, Date.now(), imageKeyId));
    const { allowed, ...answer } = await product.client.preflight({ nodeId, imageDigest, imageKeyId });
    const started = await node.acquire({ imageDigest, imageKeyId }).then(
      () => ({ allowed: true, licenseId: license.id }),
      (error: unknown) => told(Promise.reject(error as Error)),
    );
    expect(asked).toEqual(started);
    expect({ ...answer, allowed }).toMatchObject(started);
    expect([allowed, answer.code]).toEqual([code === null, code]);
  });

  it('needs no image key: the release says which', async () => {
    const { node, license } = await licensedNode();
    const { imageDigest } = sold.image;
    const { nodeId } = node.activation;
    expect(await sold.client.preflight({ nodeId, imageDigest })).toMatchObject({
      allowed: true,
      licenseId: license.id,
      version: '1.0.0',
      code: null,
    });
    expect(await node.preflight(imageDigest)).toMatchObject({
      licenseId: license.id,
      productCode: sold.productCode,
      version: '1.0.0',
    });
  });

  it('answers about a node that there is not as about any that is refused', async () => {
    const { imageDigest } = sold.image;
    expect(await sold.client.preflight({ nodeId: 'node_unknown', imageDigest })).toMatchObject({
      allowed: false,
      code: 'DENIED_NODE_UNKNOWN',
      licenseId: null,
    });
  });

  it('judges the clock of a node that asks itself', async () => {
    const { node } = await licensedNode();
    await expect(node.preflight(sold.image.imageDigest, Date.now() - 6 * 60_000)).rejects.toMatchObject({
      code: 'DENIED_CLOCK_SKEW',
    });
  });

  it('refuses what is no digest', async () => {
    const { node } = await licensedNode();
    await expect(node.preflight('sha256:abc')).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
    const input = { nodeId: node.activation.nodeId, imageDigest: 'latest' as Digest };
    await expect(sold.client.preflight(input)).rejects.toMatchObject({ code: 'USAGE_INVALID' });
  });
});

it('is a command that ends with the reason', async () => {
  const { node, license } = await licensedNode();
  const { nodeId } = node.activation;
  const env = { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: server.adminToken };
  const preflight = (...args: string[]) =>
    runLatchkey(['license', 'preflight', ...args, '--node', nodeId], {
      directory: server.dataDirectory,
      env,
    });
  const allowed = await preflight(sold.image.imageDigest);
  expect(allowed).toMatchObject({ status: 0, stderr: '' });
  expect(allowed.stdout).toMatch(new RegExp(`^license +${license.id}$`, 'mu'));
  await sold.client.changeLicense(license.id, 'suspend');
  const refused = await preflight(sold.image.imageDigest, '--json');
  expect(refused.status).toBe(77);
  expect(JSON.parse(refused.stdout)).toMatchObject({
    error: { code: 'DENIED_LICENSE_SUSPENDED', licenseId: license.id, contact: 'help@acme.example' },
  });
  expect(await preflight('sha256:abc')).toMatchObject({ status: 2, stdout: '' });
});

/** Every row of every table, as text; but the minute of a token's last use, which is of any request. */
async function dump(dataDirectory: string): Promise<string> {
  const tables = [...(await storedRows(dataDirectory))];
  const texts = tables.map(([name, rows]) =>
    [name, ...rows.map((row) => JSON.stringify({ ...row, last_used_at_ms: null })).sort()].join('\n'),
  );
  return texts.join('\n');
}

it('leaves the database as it was, allowed or refused', async () => {
  let own = await startKeyServer();
  const { dataDirectory } = own;
  try {
    const product = await createSoldProduct(own);
    const { license, licenseKey } = await product.sell();
    const node = await activateNode(own, licenseKey);
    const { nodeId } = node.activation;
    const { imageDigest } = product.image;
    await product.client.changeLicense(license.id, 'suspend');
    await own.stop();
    const before = await dump(dataDirectory);
    own = await startKeyServer({ dataDirectory });
    const client = adminClient(own);
    expect((await client.preflight({ nodeId, imageDigest })).code).toBe('DENIED_LICENSE_SUSPENDED');
    expect((await client.preflight({ nodeId, imageDigest: randomDigest() })).allowed).toBe(false);
    expect((await client.preflight({ nodeId: 'node_unknown', imageDigest })).allowed).toBe(false);
    node.close();
    await own.stop();
    expect(await dump(dataDirectory)).toBe(before);
    expect(before).toContain(license.id);
  } finally {
    await own.dispose();
  }
});
