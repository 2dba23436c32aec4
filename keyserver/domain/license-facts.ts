/** Loads the licenses that the license decision looks at, inside the transaction that acts on it. */
import type { LicenseFacts } from '#src/licensing/decide.ts';
import type { LicenseTerms } from '#src/licensing/license-terms.ts';
import { preparedQuery, preparedSetQuery } from '../db/prepared-query.ts';
import type { Reader } from '../db/store.ts';
import { fromCodeColumn } from './code-list.ts';
import { END_OF_TERM } from './license-term.ts';
import { loadConcurrentSeats } from './seat-facts.ts';
import { TERM_COLUMNS, fromTermColumns } from './term-columns.ts';

/** A license as it is decided about, with all that a lease takes over from it. */
export type GrantableLicense = LicenseFacts &
  LicenseTerms & {
    readonly productCode: string;
    /** What its duration counts from; null = that has not happened yet. */
    readonly termStartedAtMs: number | null;
    /** False when its end follows from its duration. */
    readonly hasOwnEnd: boolean;
  };

/** The licenses a node was activated with, for a start: with the count of those who hold leases, where that is limited. */
export async function loadNodeLicenses(
  reader: Reader,
  nodeId: string,
  nowMs: number,
): Promise<GrantableLicense[]> {
  const rows = await nodeLicenseRows(reader, { nodeId });
  const licenses: GrantableLicense[] = [];
  for (const row of rows) {
    const license = toLicenseFacts(row);
    const concurrent = await loadConcurrentSeats(reader, license, nodeId, nowMs);
    licenses.push(
      concurrent === undefined ? license : { ...license, seats: { ...license.seats, concurrent } },
    );
  }
  return licenses;
}

const nodeLicenseRows = preparedQuery((reader, node: { readonly nodeId: string }) =>
  licenseRows(reader)
    .innerJoin('license_node', 'license_node.license_id', 'license.id')
    .where('license_node.node_id', '=', node.nodeId),
);

/** A license of a node, and the change that made it what it is. */
export interface HeldLicense {
  readonly license: GrantableLicense;
  readonly revision: number;
}

/**
 * The licenses of nodes that have changed, by node; one that many of them have is read once.
 * @param isChanged whether a revision is news to a node
 */
export async function loadChangedLicenses(
  reader: Reader,
  nodeIds: readonly string[],
  isChanged: (nodeId: string, revision: number) => boolean,
): Promise<Map<string, HeldLicense[]>> {
  const pairs = await licensesOfNodes(reader, nodeIds);
  const changed = pairs.filter((pair) => isChanged(pair.node_id, pair.revision));
  const licenseIds = [...new Set(changed.map((pair) => pair.license_id))];
  const rows = licenseIds.length === 0 ? [] : await licenseRowsById(reader, licenseIds);
  const licenses = new Map(
    rows.map((row) => [row.id, { license: toLicenseFacts(row), revision: row.revision }] as const),
  );
  const held = new Map<string, HeldLicense[]>(nodeIds.map((nodeId) => [nodeId, []]));
  for (const pair of changed) {
    const license = licenses.get(pair.license_id);
    if (license !== undefined) held.get(pair.node_id)?.push(license);
  }
  return held;
}

const licensesOfNodes = preparedSetQuery((reader, nodeIds) =>
  reader
    .selectFrom('license_node')
    .innerJoin('license', 'license.id', 'license_node.license_id')
    .select(['license_node.node_id', 'license_node.license_id', 'license.revision'])
    .where('license_node.node_id', 'in', nodeIds),
);

const licenseRowsById = preparedSetQuery((reader, licenseIds) =>
  licenseRows(reader).where('license.id', 'in', licenseIds),
);

/** The license of a license key; undefined = no such key. */
export async function loadLicenseOfKey(
  reader: Reader,
  keyDigest: string,
): Promise<GrantableLicense | undefined> {
  const row = await licenseRows(reader).where('license.key_digest', '=', keyDigest).executeTakeFirst();
  return row === undefined ? undefined : toLicenseFacts(row);
}

/** A license by its id; undefined = there is none. */
export async function loadLicense(reader: Reader, licenseId: string): Promise<GrantableLicense | undefined> {
  const row = await licenseRows(reader).where('license.id', '=', licenseId).executeTakeFirst();
  return row === undefined ? undefined : toLicenseFacts(row);
}

/** A node that was activated holds its seat; only activation counts nodes and installations. */
const SEAT_HELD = { usedSeats: 0, heldByThisNode: true } as const;

const TERM_SELECTION = Object.values(TERM_COLUMNS).map((column) => `license.${column}` as const);

function licenseRows(reader: Reader) {
  return reader
    .selectFrom('license')
    .innerJoin('organization', 'organization.id', 'license.organization_id')
    .innerJoin('customer', 'customer.id', 'license.customer_id')
    .innerJoin('product', 'product.id', 'license.product_id')
    .select([
      'license.id',
      'license.state',
      'license.epoch',
      'license.revision',
      'license.product_id',
      'license.created_at_ms',
      'license.starts_at_ms',
      'license.expires_at_ms',
      'license.term_started_at_ms',
      'license.own_terms',
      'license.contact',
      'license.maintenance_until_ms',
      'customer.state as customer_state',
      'organization.contact as organization_contact',
      'product.contact as product_contact',
      'product.code as product_code',
      ...TERM_SELECTION,
    ]);
}

type LicenseRow = Awaited<ReturnType<ReturnType<typeof licenseRows>['executeTakeFirstOrThrow']>>;

function toLicenseFacts(row: LicenseRow): GrantableLicense {
  const terms = fromTermColumns(row);
  const { maxNodes, overage } = terms;
  return {
    ...terms,
    licenseId: row.id,
    state: row.state,
    epoch: row.epoch,
    productId: row.product_id,
    productCode: row.product_code,
    createdAtMs: row.created_at_ms,
    startsAtMs: row.starts_at_ms,
    expiresAtMs: row.expires_at_ms,
    termStartedAtMs: row.term_started_at_ms,
    hasOwnEnd: fromCodeColumn(row.own_terms).includes(END_OF_TERM),
    customerBlocked: row.customer_state === 'BLOCKED',
    contact: row.contact ?? row.product_contact ?? row.organization_contact,
    seats: { maxNodes, overage, ...SEAT_HELD },
    maintenanceUntilMs: row.maintenance_until_ms,
  };
}
