/** The columns of a license's terms; see src/licensing/license-terms.ts. */
import type { ExpirationBasis, ExpirationStrategy } from '#src/licensing/expiry.ts';
import type { OnRevoke } from '#src/licensing/license-state.ts';
import type { Overage } from '#src/licensing/seats.ts';

export interface TermColumns {
  max_nodes: number;
  max_installations: number | null;
  max_concurrent: number | null;
  overage: Overage;
  lease_duration_ms: number;
  renew_after_percent: number;
  on_revoke: OnRevoke;
  version_constraint: string | null;
  /** Codes with spaces between them; null = none. */
  entitlements: string | null;
  duration_ms: number | null;
  expiration_basis: ExpirationBasis;
  expiration_strategy: ExpirationStrategy;
  expiry_grace_ms: number;
  connectivity_grace_ms: number;
  offline_max_ms: number | null;
}
