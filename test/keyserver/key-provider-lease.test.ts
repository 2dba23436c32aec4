/** Leases for key provider calls, where the node knows the image key and no image. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { leaseClaimsSchema } from '#src/licensing/lease-claims.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { type SoldProduct, auditLog, createSoldProduct, registerImage } from '../fakes/sold-product.ts';

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

async function licensedNode() {
  const { license, licenseKey } = await sold.sell();
  const node = await activateNode(server, licenseKey);
  nodes.push(node);
  return { node, license };
}

/** The signature has tests of its own. */
function claimsOf(lease: string) {
  const [, payload = ''] = lease.split('.');
  return leaseClaimsSchema.parse(JSON.parse(Buffer.from(payload, 'base64url').toString()));
}

describe('asking by the key alone', () => {
  it('gives the lease of the release, and the audit log says how it was asked for', async () => {
    const { node, license } = await licensedNode();
    const { imageKeyId, imageDigest, imageKey } = sold.image;
    const answer = await node.acquire({ imageDigest: '', imageKeyId });
    expect(Buffer.from(await node.openImageKey(answer))).toEqual(Buffer.from(imageKey));
    expect(claimsOf(answer.lease)).toMatchObject({ imageDigest, imageKeyId, licenseId: license.id });
    const [event] = await auditLog(sold.client, answer.auditSequence - 1);
    expect(event).toMatchObject({ action: 'lease.acquire', outcome: 'allowed', target: imageDigest });
    expect(event?.detail).toMatchObject({ by: 'key-provider', licenseId: license.id });
  });

  it('is renewed like any other', async () => {
    const { node } = await licensedNode();
    const answer = await node.acquire({ imageDigest: '', imageKeyId: sold.image.imageKeyId });
    const { results } = await node.renew([claimsOf(answer.lease).leaseId]);
    expect(results[0]?.outcome?.$case).toBe('lease');
  });

  it('is denied under a revoked license, and the audit log says how it was asked for', async () => {
    const { node, license } = await licensedNode();
    await sold.client.changeLicense(license.id, 'revoke');
    await expect(node.acquire({ imageDigest: '', imageKeyId: sold.image.imageKeyId })).rejects.toMatchObject({
      code: 'DENIED_LICENSE_REVOKED',
      licenseId: license.id,
    });
    const last = (await auditLog(sold.client)).findLast(({ action }) => action === 'lease.acquire');
    expect(last).toMatchObject({ outcome: 'denied', target: sold.image.imageDigest });
    expect(last?.detail).toMatchObject({ by: 'key-provider' });
  });

  it("is denied for a key that is not registered, and for another product's", async () => {
    const { node } = await licensedNode();
    const unknown = node.acquire({ imageDigest: '', imageKeyId: 'ik-unknown' });
    await expect(unknown).rejects.toMatchObject({
      code: 'DENIED_IMAGE_UNKNOWN',
      message: expect.stringContaining('image key ik-unknown') as string,
    });
    const other = await sold.client.createProduct({ code: 'other', name: 'Other' });
    const { imageKeyId } = await registerImage(sold.client, other.code);
    await expect(node.acquire({ imageDigest: '', imageKeyId })).rejects.toMatchObject({
      code: 'DENIED_LICENSE_NOT_FOUND',
    });
  });

  it('leaves no such words on leases that name their image', async () => {
    const { node } = await licensedNode();
    const answer = await node.acquire(sold.image);
    const [event] = await auditLog(sold.client, answer.auditSequence - 1);
    expect(event?.detail).not.toHaveProperty('by');
  });
});
