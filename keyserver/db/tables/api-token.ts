/** Tokens for the admin API. None is ever deleted: the audit log names them by their ids. */
import type { PermissionSet } from '#src/wire/admin/permission.ts';
import type { Row } from './row.ts';

export interface ApiTokenTable extends Row {
  readonly name: string;
  /** The permission set; the column is older than the word. */
  readonly scope: PermissionSet;
  /** SHA-256 of the token: 256 random bits need no slow hash. That of no token once it is revoked. */
  readonly token_digest: string;
  /** Null for the first token, and those from before tokens had an end. */
  readonly expires_at_ms: number | null;
  /** To the minute. */
  readonly last_used_at_ms: number | null;
  /** Null = it is not revoked. */
  readonly revoked_at_ms: number | null;
  /** Null = all products. */
  readonly product_id: string | null;
  /** Null = all customers. */
  readonly customer_id: string | null;
}
