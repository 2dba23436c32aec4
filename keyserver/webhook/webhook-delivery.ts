/** One event to one endpoint: the request, and what is kept of how it went. */
import type { Selectable } from 'kysely';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { deliverInTime } from '../audit/delivery-timeout.ts';
import { deliveryMessage } from '../audit/export/delivery-failure.ts';
import type { WebhookEndpointTable } from '../db/tables/webhook.ts';
import type { Writer } from '../db/store.ts';
import { newId } from '../domain/ids.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { MAX_WEBHOOK_ATTEMPTS, WEBHOOK_GIVE_UP_MS, WEBHOOK_TIMEOUT_MS } from '../limits.ts';
import { appendAuditEvent } from '../audit/append-event.ts';
import { post } from '../outbound-post.ts';
import { publicLookup, requirePublicUrl } from './public-address.ts';
import { webhookMessage } from './webhook-message.ts';

export type Endpoint = Selectable<WebhookEndpointTable>;

/**
 * Sends an event.
 * @returns the status, which is 2xx
 * @throws RefusedWebhook for another one; NET_*, DENIED_SEALED, and what the network throws
 */
export async function sendWebhook(
  server: KeyServer,
  endpoint: Endpoint,
  event: AuditEvent,
  stopping: AbortSignal,
): Promise<number> {
  const url = new URL(endpoint.url);
  // It may have been made while more was allowed.
  if (!server.allowsPrivateWebhooks) requirePublicUrl(url);
  const secret = server.keys.unwrapWebhookSecret(endpoint.id, endpoint.wrapped_secret);
  const { headers, body } = webhookMessage(event, secret, server.clock.nowMs());
  const lookup = server.allowsPrivateWebhooks ? undefined : publicLookup;
  const status = await deliverInTime(WEBHOOK_TIMEOUT_MS, stopping, (signal) =>
    post({ url, headers, body, ca: null, lookup, signal }),
  );
  if (status >= 200 && status < 300) return status;
  throw new RefusedWebhook(status);
}

/** The receiver has answered, and not with 2xx. */
export class RefusedWebhook extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`it answered with status ${status}`);
    this.status = status;
  }
}

/** Keeps that an event has arrived, and goes on behind it. */
export async function keepSuccess(
  server: KeyServer,
  endpoint: Endpoint,
  sequence: number,
  status: number,
): Promise<void> {
  await server.store.write(async (writer) => {
    const nowMs = server.clock.nowMs();
    const row = await writer
      .selectFrom('webhook_endpoint')
      .select('state')
      .where('id', '=', endpoint.id)
      .executeTakeFirst();
    // Deleted while it was told: nothing of that is kept.
    if (row === undefined || row.state === 'DELETED') return;
    await keepAttempt(writer, endpoint.id, { sequence, nowMs, status, failure: null });
    await writer
      .updateTable('webhook_endpoint')
      .set({ position: sequence, delivered_at_ms: nowMs, failing_since_ms: null })
      .where('id', '=', endpoint.id)
      .execute();
  });
}

/** Goes on behind events that the endpoint does not want. */
export async function passOver(server: KeyServer, endpointId: string, sequence: number): Promise<void> {
  await server.store.write((writer) =>
    writer
      .updateTable('webhook_endpoint')
      .set({ position: sequence })
      .where('id', '=', endpointId)
      .where('position', '<', sequence)
      .where('state', '!=', 'DELETED')
      .execute(),
  );
}

/**
 * Keeps that a try has failed. An endpoint that fails for long is disabled, which stands in the audit log.
 * @returns true when it is
 */
export async function keepFailure(
  server: KeyServer,
  endpoint: Endpoint,
  sequence: number,
  error: unknown,
): Promise<boolean> {
  return server.store.write(async (writer) => {
    const nowMs = server.clock.nowMs();
    const row = await writer
      .selectFrom('webhook_endpoint')
      .select(['failing_since_ms', 'state'])
      .where('id', '=', endpoint.id)
      .executeTakeFirst();
    // It may have been deleted meanwhile.
    if (row?.state !== 'ENABLED') return false;
    const status = error instanceof RefusedWebhook ? error.status : null;
    await keepAttempt(writer, endpoint.id, { sequence, nowMs, status, failure: deliveryMessage(error) });
    const since = row.failing_since_ms ?? nowMs;
    const isGivenUp = nowMs - since >= WEBHOOK_GIVE_UP_MS;
    await writer
      .updateTable('webhook_endpoint')
      .set({ failing_since_ms: since, ...(isGivenUp ? { state: 'DISABLED' as const } : {}) })
      .where('id', '=', endpoint.id)
      .execute();
    if (isGivenUp) {
      await appendAuditEvent(writer, server.organizationId, nowMs, {
        actor: 'system',
        action: 'webhook.disable',
        target: endpoint.id,
        outcome: 'done',
      });
    }
    return isGivenUp;
  });
}

interface Attempt {
  readonly sequence: number;
  readonly nowMs: number;
  readonly status: number | null;
  readonly failure: string | null;
}

async function keepAttempt(writer: Writer, endpointId: string, attempt: Attempt): Promise<void> {
  const { sequence, nowMs, status, failure } = attempt;
  await writer
    .insertInto('webhook_attempt')
    .values({
      id: newId('attempt', nowMs),
      endpoint_id: endpointId,
      sequence,
      attempted_at_ms: nowMs,
      status,
      failure,
    })
    .execute();
  const oldest = await writer
    .selectFrom('webhook_attempt')
    .select('id')
    .where('endpoint_id', '=', endpointId)
    .orderBy('id', 'desc')
    .offset(MAX_WEBHOOK_ATTEMPTS)
    .limit(1)
    .executeTakeFirst();
  if (oldest === undefined) return;
  await writer
    .deleteFrom('webhook_attempt')
    .where('endpoint_id', '=', endpointId)
    .where('id', '<=', oldest.id)
    .execute();
}
