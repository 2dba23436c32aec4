/** The audit log. */

/** Append-only; see src/crypto/audit-chain.ts. */
export interface AuditEventTable {
  readonly sequence: number;
  readonly organization_id: string;
  readonly time_ms: number;
  readonly actor: string;
  /** Null in an event of before it was written. */
  readonly auth_method: string | null;
  readonly action: string;
  readonly target: string;
  readonly outcome: string;
  readonly code: string | null;
  /** Null where nobody has asked. */
  readonly request_id: string | null;
  readonly detail: string;
  readonly previous_hash: string;
  readonly hash: string;
}

/** The keys of the log, under the organization key. */
export interface AuditKeyTable {
  readonly organization_id: string;
  readonly created_at_ms: number;
  /** Signs checkpoints. */
  wrapped_key: Uint8Array;
  /** Conceals what tells of people. Null in a database of before it was introduced, until the next start. */
  wrapped_field_key: Uint8Array | null;
}

/** A copy of the log that is made somewhere else. */
export interface AuditExportTable {
  readonly name: string;
  readonly organization_id: string;
  /** 1 while the operator asks for it. */
  is_configured: number;
  /** Sequence number of the last event that has arrived. */
  position: number;
  delivered_at_ms: number | null;
  /** Null when the last try was a success. */
  failing_since_ms: number | null;
  failure: string | null;
}

/** The root of each full tile of the tree; computed from the events, and kept so that a start need not read them all. */
export interface AuditTileTable {
  readonly level: number;
  readonly tile_index: number;
  readonly root: Uint8Array;
}
