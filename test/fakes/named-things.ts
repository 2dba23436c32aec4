/** One existing thing for each path of the admin API that names something, so that a walk over the API reaches rows. */
import { WebhookClient } from '../../cli/webhook-client.ts';
import type { TestKeyServer } from '../../lab/keyserver.ts';
import { activateNode } from './licensed-node.ts';
import type { SoldProduct } from './sold-product.ts';

export const NAMED_METER = 'api-calls';

export type ThingNames = Awaited<ReturnType<typeof createNamedThings>>;

/** Makes them, and gives the name of each by its collection. */
export async function createNamedThings(server: TestKeyServer, sold: SoldProduct) {
  const { client, customerId, productCode, image } = sold;
  const webhooks = new WebhookClient({ serverUrl: server.adminUrl, token: server.adminToken });
  const { license, licenseKey } = await sold.sell();
  const node = await activateNode(server, licenseKey);
  await node.acquire(image);
  node.close();
  await client.metering.setMeter(license.id, NAMED_METER, { max: 7 });
  const { webhookEndpoint } = await webhooks.create({
    url: 'https://crm.acme.example/hook',
    events: ['customer.block'],
  });
  // Else its position follows what happens.
  await webhooks.setState(webhookEndpoint.id, 'disable');
  const [release] = await client.releases({ product: productCode });
  const [lease] = await client.leases({});
  const status = await (await fetch(`${server.adminUrl}/v1/sys/seal-status`)).json();
  return {
    licenses: license.id,
    leases: lease!.id,
    nodes: node.activation.nodeId,
    policies: (await client.policies.create({ code: 'premium' })).code,
    products: productCode,
    customers: customerId,
    releases: release!.id,
    'image-keys': image.imageKeyId,
    'join-tokens': (await client.createJoinToken(license.id, {})).joinToken.id,
    'api-tokens': (await client.createToken({ name: 'other', permissionSet: 'auditor' })).apiToken.id,
    'webhook-endpoints': webhookEndpoint.id,
    slots: (status as { slots: { id: string }[] }).slots[0]!.id,
  };
}

/** A path of the API document with names in place of its parameters. */
export function namedPath(path: string, names: ThingNames): string {
  return path
    .replace('{meter}', NAMED_METER)
    .replace(/([a-z-]+)\/\{\w+\}/, (_all, kind: keyof ThingNames) => `${kind}/${names[kind]}`);
}
