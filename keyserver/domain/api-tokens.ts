/** API tokens: who may use the admin API. Stored as a digest; shown once. */
import { createHash, randomBytes } from 'node:crypto';
import type { Selectable } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import type { ApiToken, CreatedToken, TokenInput } from '#src/wire/admin/api-token.ts';
import type { PermissionSet } from '#src/wire/admin/permission.ts';
import type { Page, PageQuery } from '#src/wire/admin/page.ts';
import type { Actor } from '../audit/append-event.ts';
import type { ApiTokenTable } from '../db/tables/api-token.ts';
import type { Writer } from '../db/store.ts';
import { runChange } from './change.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { toPage } from './page.ts';

const TOKEN_PREFIX = 'lkt_';
const TOKEN_BYTES = 32;

/** Draws a token. */
export function newToken(): string {
  return TOKEN_PREFIX + randomBytes(TOKEN_BYTES).toString('base64url');
}

/** Creates a token for a program or a person. */
export function createToken(server: KeyServer, actor: Actor, input: TokenInput): Promise<CreatedToken> {
  const token = newToken();
  return runChange(server, actor, async (change) => {
    const row = await insertToken(change.writer, {
      organizationId: change.organizationId,
      revision: await change.nextRevision(),
      nowMs: change.nowMs,
      name: input.name,
      permissionSet: input.permissionSet,
      token,
    });
    await change.audit({ action: 'token.create', target: row.id, detail: { permissionSet: row.scope } });
    return { apiToken: toApiToken(row), token };
  });
}

export async function listTokens(server: KeyServer, query: PageQuery): Promise<Page<ApiToken>> {
  const rows = await server.store.read
    .selectFrom('api_token')
    .selectAll()
    .where('organization_id', '=', server.organizationId)
    .where('id', '>', query.after)
    .orderBy('id')
    .limit(query.limit + 1)
    .execute();
  return toPage(rows.map(toApiToken), query);
}

/** @throws LatchkeyError STATE_NOT_FOUND; STATE_PRECONDITION for the last token that can manage tokens */
export async function revokeToken(server: KeyServer, actor: Actor, tokenId: string): Promise<void> {
  await runChange(server, actor, async (change) => {
    const { writer, organizationId } = change;
    const tokens = await writer
      .selectFrom('api_token')
      .select(['id', 'scope'])
      .where('organization_id', '=', organizationId)
      .execute();
    if (!tokens.some((token) => token.id === tokenId)) {
      throw new LatchkeyError('STATE_NOT_FOUND', `there is no token ${JSON.stringify(tokenId)}`, {
        hint: 'see `latchkey token list`',
      });
    }
    if (!tokens.some((token) => token.scope === 'admin' && token.id !== tokenId)) {
      throw new LatchkeyError('STATE_PRECONDITION', 'this is the last admin token', {
        hint: 'create another one first: latchkey token create NAME --permission-set admin',
      });
    }
    await change.nextRevision();
    await writer.deleteFrom('api_token').where('id', '=', tokenId).execute();
    await change.audit({ action: 'token.revoke', target: tokenId });
  });
}

export interface AuthenticatedToken {
  readonly tokenId: string;
  readonly permissionSet: PermissionSet;
}

/** Gives who holds a token; null = nobody. */
export async function authenticate(server: KeyServer, token: string): Promise<AuthenticatedToken | null> {
  const row = await server.store.read
    .selectFrom('api_token')
    .select(['id', 'scope'])
    .where('organization_id', '=', server.organizationId)
    .where('token_digest', '=', tokenDigest(token))
    .executeTakeFirst();
  return row === undefined ? null : { tokenId: row.id, permissionSet: row.scope };
}

export interface NewToken {
  readonly organizationId: string;
  readonly revision: number;
  readonly nowMs: number;
  readonly name: string;
  readonly permissionSet: PermissionSet;
  readonly token: string;
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
  };
  await writer.insertInto('api_token').values(row).execute();
  return row;
}

function tokenDigest(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

function toApiToken(row: Selectable<ApiTokenTable>): ApiToken {
  return {
    id: row.id,
    revision: row.revision,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    name: row.name,
    permissionSet: row.scope,
  };
}
