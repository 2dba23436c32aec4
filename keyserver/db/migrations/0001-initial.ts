/** The first schema. */
import type { CreateTableBuilder, Kysely } from 'kysely';

/** The columns that every entity has. */
function entity(database: Kysely<unknown>, table: string): CreateTableBuilder<string, string> {
  return database.schema
    .createTable(table)
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('organization_id', 'text', (column) => column.notNull().references('organization.id'))
    .addColumn('revision', 'integer', (column) => column.notNull())
    .addColumn('created_at_ms', 'integer', (column) => column.notNull())
    .addColumn('updated_at_ms', 'integer', (column) => column.notNull());
}

export async function up(database: Kysely<unknown>): Promise<void> {
  await createOrganization(database);
  await createCatalog(database);
  await createLicensing(database);
  await createNodes(database);
  await createRecords(database);
}

async function createOrganization(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('organization')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('contact', 'text', (column) => column.notNull())
    .addColumn('revision', 'integer', (column) => column.notNull())
    .addColumn('created_at_ms', 'integer', (column) => column.notNull())
    .addColumn('updated_at_ms', 'integer', (column) => column.notNull())
    .addColumn('wrapped_organization_key', 'blob', (column) => column.notNull())
    .addColumn('wrapped_lookup_key', 'blob', (column) => column.notNull())
    .addColumn('import_public_jwk', 'text', (column) => column.notNull())
    .addColumn('wrapped_import_key', 'blob', (column) => column.notNull())
    .addColumn('lease_public_jwk', 'text', (column) => column.notNull())
    .addColumn('wrapped_lease_key', 'blob', (column) => column.notNull())
    .addColumn('authority_certificate', 'blob', (column) => column.notNull())
    .addColumn('wrapped_authority_key', 'blob', (column) => column.notNull())
    .execute();
}

async function createCatalog(database: Kysely<unknown>): Promise<void> {
  await entity(database, 'product')
    .addColumn('code', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('contact', 'text')
    .addUniqueConstraint('product_code', ['organization_id', 'code'])
    .execute();
  await entity(database, 'image_key')
    .addColumn('product_id', 'text', (column) => column.notNull().references('product.id'))
    .addColumn('wrapped_key', 'blob', (column) => column.notNull())
    .addColumn('state', 'text', (column) => column.notNull())
    .execute();
  await entity(database, 'release')
    .addColumn('product_id', 'text', (column) => column.notNull().references('product.id'))
    .addColumn('repository', 'text', (column) => column.notNull())
    .addColumn('version', 'text', (column) => column.notNull())
    .addColumn('image_key_id', 'text', (column) => column.notNull().unique().references('image_key.id'))
    .addColumn('state', 'text', (column) => column.notNull())
    .execute();
  await database.schema
    .createTable('release_image')
    .addColumn('organization_id', 'text', (column) => column.notNull().references('organization.id'))
    .addColumn('image_digest', 'text', (column) => column.notNull())
    .addColumn('release_id', 'text', (column) => column.notNull().references('release.id'))
    .addPrimaryKeyConstraint('release_image_key', ['organization_id', 'image_digest'])
    .execute();
  await createIndex(database, 'release_image', 'release_id');
}

async function createLicensing(database: Kysely<unknown>): Promise<void> {
  await entity(database, 'customer')
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('external_id', 'text')
    .addColumn('state', 'text', (column) => column.notNull())
    .addUniqueConstraint('customer_external_id', ['organization_id', 'external_id'])
    .execute();
  await entity(database, 'license')
    .addColumn('key_digest', 'text', (column) => column.notNull().unique())
    .addColumn('key_last4', 'text', (column) => column.notNull())
    .addColumn('customer_id', 'text', (column) => column.notNull().references('customer.id'))
    .addColumn('product_id', 'text', (column) => column.notNull().references('product.id'))
    .addColumn('plan', 'text')
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('epoch', 'integer', (column) => column.notNull())
    .addColumn('reason', 'text')
    .addColumn('starts_at_ms', 'integer')
    .addColumn('expires_at_ms', 'integer')
    .addColumn('max_nodes', 'integer', (column) => column.notNull())
    .addColumn('lease_duration_ms', 'integer', (column) => column.notNull())
    .addColumn('on_revoke', 'text', (column) => column.notNull())
    .addColumn('contact', 'text')
    .execute();
  await createIndex(database, 'license', 'customer_id');
}

async function createNodes(database: Kysely<unknown>): Promise<void> {
  await entity(database, 'node')
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('public_jwk', 'text', (column) => column.notNull())
    .addColumn('key_thumbprint', 'text', (column) => column.notNull())
    .addColumn('certificate_serial', 'text', (column) => column.notNull())
    .addColumn('certificate_expires_at_ms', 'integer', (column) => column.notNull())
    .addUniqueConstraint('node_key', ['organization_id', 'key_thumbprint'])
    .execute();
  await database.schema
    .createTable('license_node')
    .addColumn('license_id', 'text', (column) => column.notNull().references('license.id'))
    .addColumn('node_id', 'text', (column) => column.notNull().references('node.id'))
    .addColumn('created_at_ms', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('license_node_key', ['license_id', 'node_id'])
    .execute();
  await createIndex(database, 'license_node', 'node_id');
  await entity(database, 'lease')
    .addColumn('license_id', 'text', (column) => column.notNull().references('license.id'))
    .addColumn('epoch', 'integer', (column) => column.notNull())
    .addColumn('node_id', 'text', (column) => column.notNull().references('node.id'))
    .addColumn('image_digest', 'text', (column) => column.notNull())
    .addColumn('image_key_id', 'text', (column) => column.notNull())
    .addColumn('nonce', 'text')
    .addColumn('previous_lease_id', 'text')
    .addColumn('issued_at_ms', 'integer', (column) => column.notNull())
    .addColumn('renew_at_ms', 'integer', (column) => column.notNull())
    .addColumn('expires_at_ms', 'integer', (column) => column.notNull())
    .addUniqueConstraint('lease_nonce', ['node_id', 'nonce'])
    .execute();
}

async function createRecords(database: Kysely<unknown>): Promise<void> {
  await database.schema
    .createTable('audit_event')
    .addColumn('sequence', 'integer', (column) => column.primaryKey())
    .addColumn('organization_id', 'text', (column) => column.notNull())
    .addColumn('time_ms', 'integer', (column) => column.notNull())
    .addColumn('actor', 'text', (column) => column.notNull())
    .addColumn('action', 'text', (column) => column.notNull())
    .addColumn('target', 'text', (column) => column.notNull())
    .addColumn('outcome', 'text', (column) => column.notNull())
    .addColumn('code', 'text')
    .addColumn('detail', 'text', (column) => column.notNull())
    .addColumn('previous_hash', 'text', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .execute();
  await entity(database, 'api_token')
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('scope', 'text', (column) => column.notNull())
    .addColumn('token_digest', 'text', (column) => column.notNull().unique())
    .execute();
}

async function createIndex(database: Kysely<unknown>, table: string, column: string): Promise<void> {
  await database.schema.createIndex(`${table}_${column}`).on(table).column(column).execute();
}
