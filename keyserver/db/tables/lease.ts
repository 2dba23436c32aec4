/** Leases. */
import type { Row } from './row.ts';

export interface LeaseTable extends Row {
  readonly license_id: string;
  readonly epoch: number;
  readonly node_id: string;
  readonly image_digest: string;
  readonly image_key_id: string;
  /** Hex; null for a renewal. Unique per node, so a request gets one lease. */
  readonly nonce: string | null;
  /** When the node got it a second time, as it had lost the answer; null = once. */
  repeated_at_ms: number | null;
  readonly previous_lease_id: string | null;
  readonly issued_at_ms: number;
  readonly renew_at_ms: number;
  readonly expires_at_ms: number;
  /** Until when a node that reaches nobody may use it; null = until it ends. */
  readonly usable_until_ms: number | null;
  /** The bundle that it was carried to the node in; null for one that was asked for. */
  offline_bundle_id: string | null;
}

/** Leases of one node under one license, made to be carried to it. */
export interface OfflineBundleTable extends Row {
  readonly license_id: string;
  readonly epoch: number;
  readonly node_id: string;
  /** One more with each bundle of the node. */
  readonly sequence: number;
  /** How many leases it holds. */
  readonly leases: number;
  readonly expires_at_ms: number;
  /** Containers that can be started with it; null = any number. */
  readonly max_starts: number | null;
}
