/** Tokens for the admin API. */
import type { Row } from './row.ts';

export interface ApiTokenTable extends Row {
  readonly name: string;
  readonly scope: 'admin' | 'release';
  /** SHA-256 of the token: 256 random bits need no slow hash. */
  readonly token_digest: string;
}
