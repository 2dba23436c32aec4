/** API tokens: who may use the admin API. Stored as a digest; shown once. */
import { createHash, randomBytes } from 'node:crypto';
import type { Selectable } from 'kysely';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { ApiToken, CreatedToken, TokenInput, TokenQuery } from '#src/wire/admin/api-token.ts';
import { CUSTOMER_SETS, PRODUCT_SETS, type PermissionSet } from '#src/wire/admin/permission.ts';
import type { Page } from '#src/wire/admin/page.ts';
import type { Actor } from '../audit/append-event.ts';
import type { ApiTokenTable } from '../db/tables/api-token.ts';
import type { Writer } from '../db/store.ts';
import { API_TOKEN_LIFETIME_MS, MAX_API_TOKEN_LIFETIME_MS, TOKEN_USE_PRECISION_MS } from '../limits.ts';
import type { Access } from './access.ts';
import { apiTokenStateAt, isApiTokenIn } from './api-token-state.ts';
import { type Change, runChange } from './change.ts';
import { requireCustomer } from './customers.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { allOf, isEqual } from './list-filter.ts';
import { openPage } from './page.ts';
import { requireProduct } from './products.ts';

const TOKEN_PREFIX = 'lkt_';
const TOKEN_BYTES = 32;

/** Draws a token. */
export function newToken(): string {
  return TOKEN_PREFIX + randomBytes(TOKEN_BYTES).toString('base64url');
}

/**
 * Creates a token for a program or a person.
 * @throws LatchkeyError USAGE_INVALID for a life or a part of the organization that such a token cannot have; STATE_NOT_FOUND
 */
export async function createToken(server: KeyServer, actor: Actor, input: TokenInput): Promise<CreatedToken> {
  checkTerms(input);
  const token = newToken();
  return runChange(server, actor, async (change) => {
    const { writer, organizationId } = change;
    const product =
      input.product === undefined ? null : await requireProduct(writer, organizationId, input.product);
    const customer =
      input.customer === undefined ? null : await requireCustomer(writer, organizationId, input.customer);
    const row = await insertToken(writer, {
      organizationId,
      revision: await change.nextRevision(),
      nowMs: change.nowMs,
      name: input.name,
      permissionSet: input.permissionSet,
      token,
      expiresAtMs: change.nowMs + (input.lifetimeMs ?? API_TOKEN_LIFETIME_MS),
      access: { productId: product?.id ?? null, customerId: customer?.id ?? null },
    });
    await change.audit({
      action: 'token.create',
      target: row.id,
      detail: {
        permissionSet: row.scope,
        expiresAtMs: row.expires_at_ms,
        productId: row.product_id,
        customerId: row.customer_id,
      },
    });
    return { apiToken: toApiToken(row, change.nowMs), token };
  });
}

/** @throws LatchkeyError STATE_NOT_FOUND, STATE_CONFLICT for a product or customer that is not there */
export async function listTokens(server: KeyServer, query: TokenQuery): Promise<Page<ApiToken>> {
  const { organizationId, store } = server;
  const page = openPage(server.cursorKey, { name: 'api-tokens', prefix: 'token' }, query);
  const { product, customer, state } = query;
  const nowMs = server.clock.nowMs();
  const productId =
    product === undefined ? undefined : (await requireProduct(store.read, organizationId, product)).id;
  const customerId =
    customer === undefined ? undefined : (await requireCustomer(store.read, organizationId, customer)).id;
  const rows = await store.read
    .selectFrom('api_token')
    .selectAll()
    .where('organization_id', '=', organizationId)
    .where(page.isOn('api_token.id'))
    .where(
      allOf(
        isEqual('api_token.scope', query.permissionSet),
        state === undefined ? null : isApiTokenIn(state, nowMs),
        isEqual('api_token.product_id', productId),
        isEqual('api_token.customer_id', customerId),
      ),
    )
    .orderBy('id', page.order)
    .limit(page.rows)
    .execute();
  return page.cut(rows.map((row) => toApiToken(row, nowMs)));
}

/**
 * Ends a token. Its row stays, so that the audit log can still be read; a repeated revocation changes nothing.
 * @throws LatchkeyError STATE_NOT_FOUND; STATE_PRECONDITION for the last token that can manage tokens
 */
export async function revokeToken(server: KeyServer, actor: Actor, tokenId: string): Promise<void> {
  await runChange(
    server,
    actor,
    async (change) => {
      const { writer, nowMs } = change;
      const row = await writer
        .selectFrom('api_token')
        .select('revoked_at_ms')
        .where('organization_id', '=', change.organizationId)
        .where('id', '=', tokenId)
        .executeTakeFirst();
      if (row === undefined) {
        throw new LatchkeyError('STATE_NOT_FOUND', `there is no token ${JSON.stringify(tokenId)}`, {
          hint: 'see `latchkey token list`',
        });
      }
      if (row.revoked_at_ms !== null) return;
      await requireOtherAdmin(change, tokenId);
      const changed = {
        revoked_at_ms: nowMs,
        // A key server of an earlier version on the same database looks for nothing else.
        token_digest: `revoked ${tokenId}`,
        revision: await change.nextRevision(),
        updated_at_ms: nowMs,
      };
      await writer.updateTable('api_token').set(changed).where('id', '=', tokenId).execute();
      await change.audit({ action: 'token.revoke', target: tokenId });
    },
    'URGENT',
  );
}

/** @throws LatchkeyError STATE_PRECONDITION */
async function requireOtherAdmin({ writer, organizationId, nowMs }: Change, tokenId: string): Promise<void> {
  const other = await writer
    .selectFrom('api_token')
    .select('id')
    .where('organization_id', '=', organizationId)
    .where('id', '!=', tokenId)
    .where('scope', '=', 'admin')
    .where(isApiTokenIn('ACTIVE', nowMs))
    .limit(1)
    .executeTakeFirst();
  if (other !== undefined) return;
  throw new LatchkeyError('STATE_PRECONDITION', 'this is the last admin token', {
    hint: 'create another one first: latchkey token create NAME --permission-set admin',
  });
}

export interface AuthenticatedToken {
  readonly tokenId: string;
  readonly permissionSet: PermissionSet;
  readonly access: Access;
}

/** Gives who holds a token; null = nobody. */
export async function authenticate(server: KeyServer, token: string): Promise<AuthenticatedToken | null> {
  const row = await server.store.read
    .selectFrom('api_token')
    .select(['id', 'scope', 'expires_at_ms', 'revoked_at_ms', 'last_used_at_ms', 'product_id', 'customer_id'])
    .where('organization_id', '=', server.organizationId)
    .where('token_digest', '=', tokenDigest(token))
    .executeTakeFirst();
  const nowMs = server.clock.nowMs();
  if (row === undefined || apiTokenStateAt(row, nowMs) !== 'ACTIVE') return null;
  if ((row.last_used_at_ms ?? 0) <= nowMs - TOKEN_USE_PRECISION_MS) await recordUse(server, row.id, nowMs);
  return {
    tokenId: row.id,
    permissionSet: row.scope,
    access: { productId: row.product_id, customerId: row.customer_id },
  };
}

async function recordUse(server: KeyServer, tokenId: string, nowMs: number): Promise<void> {
  try {
    await server.store.write((writer) =>
      writer
        .updateTable('api_token')
        .set({ last_used_at_ms: nowMs })
        .where('id', '=', tokenId)
        .executeTakeFirst(),
    );
  } catch (error) {
    // On a full disk the administrator has to get in and look all the same.
    if (toLatchkeyError(error).code !== 'STORAGE_FULL') throw error;
  }
}

/** @throws LatchkeyError USAGE_INVALID */
function checkTerms({ permissionSet, lifetimeMs, product, customer }: TokenInput): void {
  if (lifetimeMs !== undefined && lifetimeMs > MAX_API_TOKEN_LIFETIME_MS) {
    throw new LatchkeyError('USAGE_INVALID', 'an API token lives for 366 days at most', {
      hint: 'create another one before it ends',
    });
  }
  const refused =
    product !== undefined && !PRODUCT_SETS.includes(permissionSet)
      ? { owner: 'product', sets: PRODUCT_SETS }
      : customer !== undefined && !CUSTOMER_SETS.includes(permissionSet)
        ? { owner: 'customer', sets: CUSTOMER_SETS }
        : null;
  if (refused === null) return;
  throw new LatchkeyError(
    'USAGE_INVALID',
    `a token with the permission set ${permissionSet} cannot be for one ${refused.owner}`,
    { hint: `permission sets that can: ${refused.sets.join(', ')}` },
  );
}

export interface NewToken {
  readonly organizationId: string;
  readonly revision: number;
  readonly nowMs: number;
  readonly name: string;
  readonly permissionSet: PermissionSet;
  readonly token: string;
  /** Null = never. */
  readonly expiresAtMs: number | null;
  readonly access: Access;
}

/** Stores a token that was drawn before. */
export async function insertToken(writer: Writer, token: NewToken): Promise<Selectable<ApiTokenTable>> {
  const row: ApiTokenTable = {
    id: newId('token', token.nowMs),
    organization_id: token.organizationId,
    revision: token.revision,
    created_at_ms: token.nowMs,
    updated_at_ms: token.nowMs,
    name: token.name,
    scope: token.permissionSet,
    token_digest: tokenDigest(token.token),
    expires_at_ms: token.expiresAtMs,
    last_used_at_ms: null,
    revoked_at_ms: null,
    product_id: token.access.productId,
    customer_id: token.access.customerId,
  };
  await writer.insertInto('api_token').values(row).execute();
  return row;
}

function tokenDigest(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

function toApiToken(row: Selectable<ApiTokenTable>, nowMs: number): ApiToken {
  return {
    id: row.id,
    revision: row.revision,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    name: row.name,
    permissionSet: row.scope,
    state: apiTokenStateAt(row, nowMs),
    expiresAtMs: row.expires_at_ms,
    lastUsedAtMs: row.last_used_at_ms,
    revokedAtMs: row.revoked_at_ms,
    productId: row.product_id,
    customerId: row.customer_id,
  };
}
