/** Join tokens: they let machines be enrolled under a license without its key. Stored as a digest; shown once. */
import { randomBytes } from 'node:crypto';
import type { Selectable } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import { JOIN_TOKEN_BYTES, formatJoinToken, joinTokenDigest } from '#src/licensing/join-token.ts';
import type { JoinTokenFacts } from '#src/licensing/join-token-state.ts';
import type {
  CreatedJoinToken,
  JoinToken,
  JoinTokenQuery,
  JoinTokenInput,
} from '#src/wire/admin/join-token.ts';
import type { Page } from '#src/wire/admin/page.ts';
import type { Actor } from '../audit/append-event.ts';
import type { JoinTokenTable } from '../db/tables/license.ts';
import type { Reader, Writer } from '../db/store.ts';
import { type Access, isWithin } from './access.ts';
import { runChange } from './change.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { getLicense } from './licenses.ts';
import { allOf, isEqual } from './list-filter.ts';
import { openPage } from './page.ts';

/**
 * Creates a token for a license.
 * @throws LatchkeyError STATE_NOT_FOUND; STATE_PRECONDITION for a license that is revoked
 */
export async function createJoinToken(
  server: KeyServer,
  actor: Actor,
  licenseId: string,
  input: JoinTokenInput,
): Promise<CreatedJoinToken> {
  const license = await getLicense(server, licenseId);
  if (license.state === 'REVOKED') {
    throw new LatchkeyError('STATE_PRECONDITION', `license ${licenseId} is revoked`, {
      hint: 'create a new license',
    });
  }
  const token = formatJoinToken(randomBytes(JOIN_TOKEN_BYTES));
  return runChange(server, actor, async (change) => {
    const { nowMs } = change;
    const row: JoinTokenTable = {
      id: newId('join', nowMs),
      organization_id: change.organizationId,
      revision: await change.nextRevision(),
      created_at_ms: nowMs,
      updated_at_ms: nowMs,
      license_id: licenseId,
      token_digest: joinTokenDigest(token),
      uses_left: input.uses,
      expires_at_ms: nowMs + input.lifeMs,
      revoked_at_ms: null,
      last_node_id: null,
    };
    await change.writer.insertInto('join_token').values(row).execute();
    await change.audit({
      action: 'join-token.create',
      target: row.id,
      detail: { licenseId, uses: input.uses, expiresAtMs: row.expires_at_ms },
    });
    return { joinToken: toJoinToken(row), token };
  });
}

export async function listJoinTokens(
  server: KeyServer,
  query: JoinTokenQuery,
  access: Access,
): Promise<Page<JoinToken>> {
  const page = openPage(server.cursorKey, { name: 'join-tokens', prefix: 'join' }, query);
  const rows = await server.store.read
    .selectFrom('join_token')
    .selectAll()
    .where('organization_id', '=', server.organizationId)
    .where(page.isOn('join_token.id'))
    .where(allOf(isEqual('join_token.license_id', query.license)))
    .where(isWithin(access, { license: 'join_token.license_id' }))
    .orderBy('id', page.order)
    .limit(page.rows)
    .execute();
  return page.cut(rows.map(toJoinToken));
}

/**
 * Ends a token. The nodes that it let in stay; a repeated revocation changes nothing.
 * @throws LatchkeyError STATE_NOT_FOUND
 */
export function revokeJoinToken(server: KeyServer, actor: Actor, tokenId: string): Promise<JoinToken> {
  return runChange(
    server,
    actor,
    async (change) => {
      const { writer, organizationId, nowMs } = change;
      const row = await writer
        .selectFrom('join_token')
        .selectAll()
        .where('organization_id', '=', organizationId)
        .where('id', '=', tokenId)
        .executeTakeFirst();
      if (row === undefined) {
        throw new LatchkeyError('STATE_NOT_FOUND', `there is no join token ${JSON.stringify(tokenId)}`, {
          hint: 'see `latchkey license join-tokens`',
        });
      }
      if (row.revoked_at_ms !== null) return toJoinToken(row);
      const changed = { revoked_at_ms: nowMs, revision: await change.nextRevision(), updated_at_ms: nowMs };
      await writer.updateTable('join_token').set(changed).where('id', '=', tokenId).execute();
      await change.audit({
        action: 'join-token.revoke',
        target: tokenId,
        detail: { licenseId: row.license_id },
      });
      return toJoinToken({ ...row, ...changed });
    },
    'URGENT',
  );
}

/** What an activation looks at. */
export interface KnownJoinToken extends JoinTokenFacts {
  readonly licenseId: string;
}

/** The token of a digest; undefined = there is none. */
export async function loadJoinToken(
  reader: Reader,
  organizationId: string,
  digest: string,
): Promise<KnownJoinToken | undefined> {
  const row = await reader
    .selectFrom('join_token')
    .selectAll()
    .where('organization_id', '=', organizationId)
    .where('token_digest', '=', digest)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  return {
    tokenId: row.id,
    licenseId: row.license_id,
    usesLeft: row.uses_left,
    expiresAtMs: row.expires_at_ms,
    isRevoked: row.revoked_at_ms !== null,
    lastNodeId: row.last_node_id,
  };
}

/** Counts one use; the node that used it last repeats that for nothing. */
export async function useJoinToken(writer: Writer, token: KnownJoinToken, nodeId: string): Promise<void> {
  if (token.lastNodeId === nodeId) return;
  await writer
    .updateTable('join_token')
    .set({ uses_left: token.usesLeft - 1, last_node_id: nodeId })
    .where('id', '=', token.tokenId)
    .execute();
}

function toJoinToken(row: Selectable<JoinTokenTable>): JoinToken {
  return {
    id: row.id,
    revision: row.revision,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    licenseId: row.license_id,
    usesLeft: row.uses_left,
    expiresAtMs: row.expires_at_ms,
    revokedAtMs: row.revoked_at_ms,
  };
}
