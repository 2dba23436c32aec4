/** The state of an API token: revoked when somebody says so, expired by time alone. */
import { type Expression, type SqlBool, sql } from 'kysely';
import type { ApiTokenState } from '#src/wire/admin/api-token.ts';
import type { ApiTokenTable } from '../db/tables/api-token.ts';

/** A token that is revoked stays so past its end: that is what was done to it. */
export function apiTokenStateAt(
  token: Pick<ApiTokenTable, 'expires_at_ms' | 'revoked_at_ms'>,
  nowMs: number,
): ApiTokenState {
  if (token.revoked_at_ms !== null) return 'REVOKED';
  return (token.expires_at_ms ?? Infinity) <= nowMs ? 'EXPIRED' : 'ACTIVE';
}

/** `apiTokenStateAt` as a condition; a test holds the two together. */
export function isApiTokenIn(state: ApiTokenState, nowMs: number): Expression<SqlBool> {
  const hasExpired = sql<SqlBool>`(api_token.expires_at_ms is not null and api_token.expires_at_ms <= ${nowMs})`;
  switch (state) {
    case 'REVOKED':
      return sql<SqlBool>`api_token.revoked_at_ms is not null`;
    case 'EXPIRED':
      return sql<SqlBool>`(api_token.revoked_at_ms is null and ${hasExpired})`;
    case 'ACTIVE':
      return sql<SqlBool>`(api_token.revoked_at_ms is null and not ${hasExpired})`;
  }
}
