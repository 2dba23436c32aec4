/** What a webhook gets: ids and times, signed as Standard Webhooks 1.0 says. Pure. */
import { createHmac, randomBytes } from 'node:crypto';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';

const SECRET_PREFIX = 'whsec_';
/** The specification wants 24 to 64. */
const SECRET_BYTES = 32;

/** Draws a secret. */
export function newWebhookSecret(): Buffer {
  return randomBytes(SECRET_BYTES);
}

/** The secret as receivers' libraries take it. */
export function webhookSecretText(secret: Uint8Array): string {
  return SECRET_PREFIX + Buffer.from(secret).toString('base64');
}

/** The kind of an event: its action, with `.denied` where it was. */
export function webhookType({ action, outcome }: Pick<AuditEvent, 'action' | 'outcome'>): string {
  return outcome === 'denied' ? `${action}.denied` : action;
}

/** True when one of the patterns is for that kind. */
export function isWanted(type: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) =>
    pattern.endsWith('*') ? type.startsWith(pattern.slice(0, -1)) : type === pattern,
  );
}

export interface WebhookMessage {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** Makes the request of one event; a repetition differs in its time and signature only. */
export function webhookMessage(event: AuditEvent, secret: Uint8Array, nowMs: number): WebhookMessage {
  const { sequence, organizationId, actor, target, outcome, code } = event;
  const body = JSON.stringify({
    type: webhookType(event),
    timestamp: new Date(event.timeMs).toISOString(),
    // No detail: whoever may know more asks for it with a token.
    data: { sequence, organizationId, actor, action: event.action, target, outcome, code },
  });
  const id = `${organizationId}-${sequence}`;
  const seconds = String(Math.floor(nowMs / 1000));
  const signature = createHmac('sha256', secret).update(`${id}.${seconds}.${body}`).digest('base64');
  return {
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': seconds,
      'webhook-signature': `v1,${signature}`,
    },
    body: Buffer.from(body),
  };
}
