/** The audit log. */

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
