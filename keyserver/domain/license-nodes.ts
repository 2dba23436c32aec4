/** Which nodes hold a seat of which license. */
import type { Reader } from '../db/store.ts';

/** Gives the nodes that were activated with a license. */
export async function nodesOfLicense(reader: Reader, licenseId: string): Promise<string[]> {
  const rows = await reader
    .selectFrom('license_node')
    .select('node_id')
    .where('license_id', '=', licenseId)
    .execute();
  return rows.map((row) => row.node_id);
}

/** Gives the nodes that were activated with any license under a policy. */
export async function nodesOfPolicy(reader: Reader, policyId: string): Promise<string[]> {
  const rows = await reader
    .selectFrom('license_node')
    .innerJoin('license', 'license.id', 'license_node.license_id')
    .select('license_node.node_id')
    .distinct()
    .where('license.policy_id', '=', policyId)
    .execute();
  return rows.map((row) => row.node_id);
}

/** Gives the nodes that were activated with any license of a customer. */
export async function nodesOfCustomer(reader: Reader, customerId: string): Promise<string[]> {
  const rows = await reader
    .selectFrom('license_node')
    .innerJoin('license', 'license.id', 'license_node.license_id')
    .select('license_node.node_id')
    .distinct()
    .where('license.customer_id', '=', customerId)
    .execute();
  return rows.map((row) => row.node_id);
}
