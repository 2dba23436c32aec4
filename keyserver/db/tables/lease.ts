/** Leases. */
import type { Row } from './row.ts';

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
