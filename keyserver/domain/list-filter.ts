/** Conditions of list queries, of filters that may be left out. */
import { type Expression, type SqlBool, sql } from 'kysely';

type Condition = Expression<SqlBool> | null;

/** All of these; null asks nothing. */
export function allOf(...conditions: readonly Condition[]): Expression<SqlBool> {
  const asked = conditions.filter((condition) => condition !== null);
  return asked.length === 0 ? sql<SqlBool>`1 = 1` : sql<SqlBool>`(${sql.join(asked, sql` and `)})`;
}

/**
 * Of an organization, for lists in the order of ids: by an index that begins with the organization, SQLite would read and sort
 * all of its rows for a page.
 */
export function isOfOrganization(column: string, organizationId: string): Expression<SqlBool> {
  return sql<SqlBool>`coalesce(${sql.ref(column)}, '') = ${organizationId}`;
}

/** Undefined asks nothing. */
export function isEqual(column: string, value: string | undefined): Condition {
  return value === undefined ? null : sql<SqlBool>`${sql.ref(column)} = ${value}`;
}

/** From a moment on and before another; undefined is open. What has no time is in no range. */
export function isBetween(
  column: string,
  fromMs: number | undefined,
  untilMs: number | undefined,
): Condition {
  const from = fromMs === undefined ? null : sql<SqlBool>`${sql.ref(column)} >= ${fromMs}`;
  const until = untilMs === undefined ? null : sql<SqlBool>`${sql.ref(column)} < ${untilMs}`;
  return from === null && until === null ? null : allOf(from, until);
}
