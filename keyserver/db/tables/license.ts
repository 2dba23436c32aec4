/** Customers and their licenses. */
import type { StoredLicenseState } from '#src/licensing/license-state.ts';
import type { Row } from './row.ts';
import type { TermColumns } from './term-columns.ts';

export interface CustomerTable extends Row {
  name: string;
  external_id: string | null;
  state: 'ACTIVE' | 'BLOCKED';
}

export interface LicenseTable extends Row, TermColumns {
  readonly key_digest: string;
  readonly key_last4: string;
  readonly customer_id: string;
  readonly product_id: string;
  plan: string | null;
  policy_id: string | null;
  /** Names of the terms that are its own and not its policy's, `expiresAtMs` among them; spaces in between; null = none. */
  own_terms: string | null;
  is_trial: 0 | 1;
  state: StoredLicenseState;
  /** What a reinstatement makes it again; null while it is not suspended, and for ACTIVE in rows of before there was this. */
  state_before_suspension: StoredLicenseState | null;
  /** Counts the changes of this license; leases of an older epoch are void. */
  epoch: number;
  reason: string | null;
  starts_at_ms: number | null;
  expires_at_ms: number | null;
  /** What its duration counts from; null = that has not happened yet. */
  term_started_at_ms: number | null;
  contact: string | null;
  /** Releases published after it are not covered; null = all are. */
  maintenance_until_ms: number | null;
  /** What the vendor notes on it, as JSON; null = nothing. */
  metadata: string | null;
}

/** Under which word the vendor wants to find which license. */
export interface LicenseTagTable {
  readonly license_id: string;
  readonly tag: string;
}

/** A seat: this node was activated with this license. */
export interface LicenseNodeTable {
  readonly license_id: string;
  readonly node_id: string;
  readonly created_at_ms: number;
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
