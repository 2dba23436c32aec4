/** Webhook endpoints: who is told of events, and how that went. */
import type { Selectable } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Page } from '#src/wire/admin/page.ts';
import type {
  CreatedWebhook,
  WebhookAttempt,
  WebhookEndpoint,
  WebhookInput,
  WebhookQuery,
} from '#src/wire/admin/webhook.ts';
import type { Actor } from '../audit/append-event.ts';
import type { WebhookEndpointTable } from '../db/tables/webhook.ts';
import type { Writer } from '../db/store.ts';
import { MAX_WEBHOOK_ENDPOINTS } from '../limits.ts';
import { requirePublicUrl } from '../webhook/public-address.ts';
import { newWebhookSecret, webhookSecretText } from '../webhook/webhook-message.ts';
import { runChange } from './change.ts';
import { newId } from './ids.ts';
import type { KeyServer } from './key-server.ts';
import { allOf, isEqual } from './list-filter.ts';
import { openPage } from './page.ts';

/**
 * Creates an endpoint. It hears of what happens from then on.
 * @throws LatchkeyError USAGE_INVALID for an address that nothing is sent to, LIMIT_EXCEEDED, DENIED_SEALED
 */
export async function createWebhook(
  server: KeyServer,
  actor: Actor,
  input: WebhookInput,
): Promise<CreatedWebhook> {
  if (!server.allowsPrivateWebhooks) requirePublicUrl(new URL(input.url));
  const secret = newWebhookSecret();
  return runChange(server, actor, async (change) => {
    const { writer, organizationId, nowMs } = change;
    const { count } = await writer
      .selectFrom('webhook_endpoint')
      .select((column) => column.fn.countAll<number>().as('count'))
      .where('state', '!=', 'DELETED')
      .executeTakeFirstOrThrow();
    if (count >= MAX_WEBHOOK_ENDPOINTS) {
      throw new LatchkeyError('LIMIT_EXCEEDED', `there are ${count} webhook endpoints already`, {
        hint: 'delete one that is not used any more: latchkey webhook list',
      });
    }
    const id = newId('webhook', nowMs);
    const revision = await change.nextRevision();
    const { sequence } = await change.audit({
      action: 'webhook.create',
      target: id,
      // The path may be what keeps strangers out at the receiver.
      detail: { host: new URL(input.url).host, events: input.events },
    });
    const row: WebhookEndpointTable = {
      id,
      organization_id: organizationId,
      revision,
      created_at_ms: nowMs,
      updated_at_ms: nowMs,
      url: input.url,
      events: JSON.stringify(input.events),
      state: 'ENABLED',
      wrapped_secret: server.keys.wrapWebhookSecret(id, secret),
      position: sequence,
      delivered_at_ms: null,
      failing_since_ms: null,
    };
    await writer.insertInto('webhook_endpoint').values(row).execute();
    return { webhookEndpoint: toWebhook(row), secret: webhookSecretText(secret) };
  });
}

export async function listWebhooks(server: KeyServer, query: WebhookQuery): Promise<Page<WebhookEndpoint>> {
  const page = openPage(server.cursorKey, { name: 'webhook-endpoints', prefix: 'webhook' }, query);
  const rows = await server.store.read
    .selectFrom('webhook_endpoint')
    .selectAll()
    .where('organization_id', '=', server.organizationId)
    .where(page.isOn('webhook_endpoint.id'))
    .where(allOf(isEqual('webhook_endpoint.state', query.state)))
    .orderBy('id', page.order)
    .limit(page.rows)
    .execute();
  return page.cut(rows.map(toWebhook));
}

/**
 * Enables or disables an endpoint. One that is enabled again goes on where it was.
 * @throws LatchkeyError STATE_NOT_FOUND, STATE_PRECONDITION for one that was deleted
 */
export function setWebhookState(
  server: KeyServer,
  actor: Actor,
  id: string,
  state: 'ENABLED' | 'DISABLED',
): Promise<WebhookEndpoint> {
  return runChange(server, actor, async (change) => {
    const { writer, nowMs } = change;
    const row = await requireWebhook(server, writer, id);
    if (row.state === state) return toWebhook(row);
    if (row.state === 'DELETED') {
      throw new LatchkeyError('STATE_PRECONDITION', `the webhook endpoint ${id} was deleted`, {
        hint: 'create another one: `latchkey webhook create`',
      });
    }
    const changed = {
      state,
      failing_since_ms: null,
      revision: await change.nextRevision(),
      updated_at_ms: nowMs,
    };
    await writer.updateTable('webhook_endpoint').set(changed).where('id', '=', id).execute();
    await change.audit({ action: state === 'ENABLED' ? 'webhook.enable' : 'webhook.disable', target: id });
    return toWebhook({ ...row, ...changed });
  });
}

/**
 * Ends an endpoint. Its row stays, without its secret; a repeated deletion changes nothing.
 * @throws LatchkeyError STATE_NOT_FOUND
 */
export async function deleteWebhook(server: KeyServer, actor: Actor, id: string): Promise<void> {
  await runChange(server, actor, async (change) => {
    const { writer, nowMs } = change;
    const row = await requireWebhook(server, writer, id);
    if (row.state === 'DELETED') return;
    const changed = {
      state: 'DELETED' as const,
      wrapped_secret: Buffer.alloc(0),
      failing_since_ms: null,
      revision: await change.nextRevision(),
      updated_at_ms: nowMs,
    };
    await writer.deleteFrom('webhook_attempt').where('endpoint_id', '=', id).execute();
    await writer.updateTable('webhook_endpoint').set(changed).where('id', '=', id).execute();
    await change.audit({ action: 'webhook.delete', target: id });
  });
}

/**
 * The last tries, newest first.
 * @throws LatchkeyError STATE_NOT_FOUND
 */
export async function listAttempts(server: KeyServer, id: string): Promise<WebhookAttempt[]> {
  await requireWebhook(server, server.store.read, id);
  const rows = await server.store.read
    .selectFrom('webhook_attempt')
    .selectAll()
    .where('endpoint_id', '=', id)
    .orderBy('id', 'desc')
    .execute();
  return rows.map((row) => ({
    sequence: row.sequence,
    attemptedAtMs: row.attempted_at_ms,
    status: row.status,
    failure: row.failure,
  }));
}

async function requireWebhook(
  server: KeyServer,
  reader: KeyServer['store']['read'] | Writer,
  id: string,
): Promise<Selectable<WebhookEndpointTable>> {
  const row = await reader
    .selectFrom('webhook_endpoint')
    .selectAll()
    .where('organization_id', '=', server.organizationId)
    .where('id', '=', id)
    .executeTakeFirst();
  if (row !== undefined) return row;
  throw new LatchkeyError('STATE_NOT_FOUND', `there is no webhook endpoint ${JSON.stringify(id)}`, {
    hint: 'see `latchkey webhook list`',
  });
}

function toWebhook(row: Selectable<WebhookEndpointTable>): WebhookEndpoint {
  return {
    id: row.id,
    revision: row.revision,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    url: row.url,
    events: JSON.parse(row.events) as string[],
    state: row.state,
    position: row.position,
    deliveredAtMs: row.delivered_at_ms,
    failingSinceMs: row.failing_since_ms,
  };
}
