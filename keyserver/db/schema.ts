/**
 * The tables, in the subset that SQLite and PostgreSQL share: text, integer and blob columns, times as epoch
 * milliseconds, JSON as text. Everything secret in here is wrapped by custody or is a one-way digest.
 */
import type { NodeState } from '#src/licensing/node-state.ts';
import type { OnRevoke, StoredLicenseState } from '#src/licensing/license-state.ts';

interface Row {
  readonly id: string;
  readonly organization_id: string;
  /** The organization's revision at the last change of this row. */
  revision: number;
  readonly created_at_ms: number;
  updated_at_ms: number;
}

export interface OrganizationTable {
  readonly id: string;
  name: string;
  contact: string;
  /** Counts every change; what nodes and clients compare. */
  revision: number;
  readonly created_at_ms: number;
  updated_at_ms: number;
  /** Organization key under the root key; everything below is under the organization key. */
  wrapped_organization_key: Uint8Array;
  wrapped_lookup_key: Uint8Array;
  import_public_jwk: string;
  wrapped_import_key: Uint8Array;
  lease_public_jwk: string;
  wrapped_lease_key: Uint8Array;
  authority_certificate: Uint8Array;
  wrapped_authority_key: Uint8Array;
  /** Null in a database of before it was introduced, until the next start. */
  release_public_jwk: string | null;
  wrapped_release_key: Uint8Array | null;
}

export interface ProductTable extends Row {
  readonly code: string;
  name: string;
  contact: string | null;
}

export interface ReleaseTable extends Row {
  readonly product_id: string;
  readonly repository: string;
  readonly version: string;
  readonly image_key_id: string;
  state: 'PUBLISHED' | 'YANKED';
  /** Signed envelope (DSSE, JSON) that says what the release is; null for one registered before there were any. */
  statement: string | null;
}

/** One row per manifest of a release: index and platforms. */
export interface ReleaseImageTable {
  readonly organization_id: string;
  readonly image_digest: string;
  readonly release_id: string;
}

export interface ImageKeyTable extends Row {
  readonly product_id: string;
  wrapped_key: Uint8Array;
  /** PENDING: made here for a release that is not registered yet; it opens nothing. */
  state: 'PENDING' | 'ACTIVE' | 'DESTROYED';
}

export interface CustomerTable extends Row {
  name: string;
  external_id: string | null;
  state: 'ACTIVE' | 'BLOCKED';
}

export interface LicenseTable extends Row {
  readonly key_digest: string;
  readonly key_last4: string;
  readonly customer_id: string;
  readonly product_id: string;
  plan: string | null;
  state: StoredLicenseState;
  /** Counts the changes of this license; leases of an older epoch are void. */
  epoch: number;
  reason: string | null;
  starts_at_ms: number | null;
  expires_at_ms: number | null;
  max_nodes: number;
  lease_duration_ms: number;
  on_revoke: OnRevoke;
  contact: string | null;
}

/** A seat: this node was activated with this license. */
export interface LicenseNodeTable {
  readonly license_id: string;
  readonly node_id: string;
  readonly created_at_ms: number;
}

export interface NodeTable extends Row {
  name: string;
  state: NodeState;
  readonly public_jwk: string;
  /** RFC 7638 thumbprint of the node key: what a node is. */
  readonly key_thumbprint: string;
  certificate_serial: string;
  certificate_expires_at_ms: number;
  /** Where the node belongs, as it said at its activation: a cluster's id or a name; null when it did not say. */
  installation: string | null;
}

/** How a node was heard last; see src/licensing/node-chain.ts. */
export interface NodeSessionTable {
  readonly node_id: string;
  sequence: number;
  token: string;
  previous_token: string;
  opened_by: string;
  machine: string;
  boot: string;
  boot_time_ms: number;
  counter: number;
  window: number;
}

/** Lets machines be enrolled under a license without its key. */
export interface JoinTokenTable extends Row {
  readonly license_id: string;
  /** SHA-256 of the token. */
  readonly token_digest: string;
  uses_left: number;
  readonly expires_at_ms: number;
  revoked_at_ms: number | null;
  /** The node that used it last may repeat that. */
  last_node_id: string | null;
}

export interface LeaseTable extends Row {
  readonly license_id: string;
  readonly epoch: number;
  readonly node_id: string;
  readonly image_digest: string;
  readonly image_key_id: string;
  /** Hex; null for a renewal. Unique per node, so a request is answered once. */
  readonly nonce: string | null;
  readonly previous_lease_id: string | null;
  readonly issued_at_ms: number;
  readonly renew_at_ms: number;
  readonly expires_at_ms: number;
}

/** The newest word of a node about a license that it refuses starts under. Times of the node are its own. */
export interface PlaintextReportTable {
  readonly license_id: string;
  readonly node_id: string;
  epoch: number;
  denial_code: string;
  starts_refused_at_ms: number;
  running_containers: number;
  plaintext_layers: number;
  /** Null while there is plaintext or a running container. */
  plaintext_gone_at_ms: number | null;
  reported_at_ms: number;
}

/** Append-only; see src/crypto/audit-chain.ts. */
export interface AuditEventTable {
  readonly sequence: number;
  readonly organization_id: string;
  readonly time_ms: number;
  readonly actor: string;
  readonly action: string;
  readonly target: string;
  readonly outcome: string;
  readonly code: string | null;
  readonly detail: string;
  readonly previous_hash: string;
  readonly hash: string;
}

export interface ApiTokenTable extends Row {
  readonly name: string;
  readonly scope: 'admin' | 'release';
  /** SHA-256 of the token: 256 random bits need no slow hash. */
  readonly token_digest: string;
}

export interface Database {
  organization: OrganizationTable;
  product: ProductTable;
  release: ReleaseTable;
  release_image: ReleaseImageTable;
  image_key: ImageKeyTable;
  customer: CustomerTable;
  license: LicenseTable;
  license_node: LicenseNodeTable;
  node: NodeTable;
  node_session: NodeSessionTable;
  join_token: JoinTokenTable;
  lease: LeaseTable;
  plaintext_report: PlaintextReportTable;
  audit_event: AuditEventTable;
  api_token: ApiTokenTable;
}
