/** A product with a registered release and a license, made through the admin API as an ISV would. */
import { randomBytes } from 'node:crypto';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { sealEnvelope } from '#src/crypto/envelope.ts';
import type { License, LicenseRequest } from '#src/wire/admin/license.ts';
import type { ReleaseInput } from '#src/wire/admin/release.ts';
import { type Digest, parseDigest } from '#src/oci/digest.ts';
import { AdminClient } from '../../cli/admin-client.ts';
import type { TestKeyServer } from '../../lab/keyserver.ts';
import { statementTextFor } from './release-statement.ts';

export function adminClient(server: TestKeyServer, token = server.adminToken): AdminClient {
  return new AdminClient({ serverUrl: server.adminUrl, token });
}

/** Seals an image key as CI does. */
export async function sealImageKey(
  client: AdminClient,
  imageKeyId: string,
  imageKey: Uint8Array,
): Promise<string> {
  const { importPublicKeyJwk } = await client.organization();
  return sealEnvelope(imageKey, importPublicKeyJwk, 'latchkey-image-key-import', imageKeyId);
}

export function randomDigest(): Digest {
  return parseDigest(`sha256:${randomBytes(32).toString('hex')}`);
}

export interface RegisteredImage {
  readonly imageDigest: Digest;
  readonly imageKeyId: string;
  readonly imageKey: Uint8Array;
}

/** Registers a release with one image. */
export async function registerImage(
  client: AdminClient,
  productCode: string,
  terms: Partial<Pick<ReleaseInput, 'version' | 'entitlementCodes' | 'derivedFrom'>> = {},
): Promise<RegisteredImage> {
  const { id: organizationId } = await client.organization();
  const imageKeyId = `ik-${randomBytes(8).toString('hex')}`;
  const image = {
    imageDigest: randomDigest(),
    imageKeyId,
    imageKey: new Uint8Array(randomBytes(32)),
  };
  await client.registerRelease({
    productCode,
    repository: 'registry.example/acme/web',
    version: '1.0.0',
    imageDigests: [image.imageDigest],
    imageKeyId,
    sealedImageKey: await sealImageKey(client, imageKeyId, image.imageKey),
    statement: statementTextFor(image.imageDigest, { productCode, organizationId, imageKeyId }),
    ...terms,
  });
  return image;
}

export interface SoldProduct {
  readonly client: AdminClient;
  readonly productCode: string;
  readonly customerId: string;
  readonly image: RegisteredImage;
  /** Sells one more license of this product. */
  sell(terms?: Partial<LicenseRequest>): Promise<{ license: License; licenseKey: string }>;
}

/** Creates a product, a customer and a release. */
export async function createSoldProduct(server: TestKeyServer): Promise<SoldProduct> {
  const client = adminClient(server);
  const suffix = randomBytes(4).toString('hex');
  const product = await client.createProduct({
    code: `web-${suffix}`,
    name: 'Acme Web',
    contact: 'help@acme.example',
  });
  const customer = await client.createCustomer({ name: `Initech ${suffix}`, externalId: `crm-${suffix}` });
  return {
    client,
    productCode: product.code,
    customerId: customer.id,
    image: await registerImage(client, product.code),
    sell: (terms = {}) => client.createLicense({ customer: customer.id, product: product.code, ...terms }),
  };
}

/** The whole audit log after a sequence number. */
export async function auditLog(client: AdminClient, after = 0): Promise<AuditEvent[]> {
  const events: AuditEvent[] = [];
  for await (const event of client.auditEvents(after)) events.push(event);
  return events;
}
