/** When API tokens end, when they were last used, and the part of the organization each is for. */
import type { Kysely } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  // Tokens of before stay as they were: without an end, for the whole organization.
  for (const column of ['expires_at_ms', 'last_used_at_ms'] as const)
    await database.schema.alterTable('api_token').addColumn(column, 'integer').execute();
  for (const [column, table] of [
    ['product_id', 'product'],
    ['customer_id', 'customer'],
  ] as const)
    await database.schema
      .alterTable('api_token')
      .addColumn(column, 'text', (built) => built.references(`${table}.id`))
      .execute();
}
