/** Webhook endpoints in the admin API. */
import * as z from 'zod';
import { MAX_WEBHOOK_EVENTS, MAX_WEBHOOK_URL } from '#src/base/limits.ts';
import { isEventKind } from '#src/licensing/audit-actions.ts';
import { common, timeMs } from './field.ts';
import { pageQuerySchema } from './page.ts';

/** A kind of event: an action of the audit log, with `.denied` where it was; `license.*` or `*` for all of them. */
export const webhookEvent = z
  .string()
  .regex(
    /^(?:\*|[a-z][a-z-]*(?:\.[a-z][a-z-]*){0,3}(?:\.\*)?)$/,
    'like license.revoke, lease.acquire.denied, license.* or *',
  )
  .max(100)
  .refine(isEventKind, 'an action of the audit log; one that never happens would be waited for in vain');

export const webhookUrl = z
  .string()
  .max(MAX_WEBHOOK_URL)
  .refine(isWebhookUrl, 'an https:// address without user, password, spaces and #');

/** URL takes spaces and control characters, and leaves them out or encodes them; a database may not store them. */
function isWebhookUrl(text: string): boolean {
  if (/[\p{Cc}\s]/u.test(text) || !text.isWellFormed() || !URL.canParse(text)) return false;
  const { protocol, username, password, hash } = new URL(text);
  return /^https?:$/.test(protocol) && username === '' && password === '' && hash === '';
}

export const webhookInputSchema = z.strictObject({
  url: webhookUrl,
  events: z.array(webhookEvent).min(1).max(MAX_WEBHOOK_EVENTS),
});

export type WebhookInput = z.infer<typeof webhookInputSchema>;

/** DELETED: its row stays, so that the audit log can still be read; its secret and what was tried do not. */
export const WEBHOOK_STATES = ['ENABLED', 'DISABLED', 'DELETED'] as const;

export const webhookEndpointSchema = z.object({
  ...common,
  url: z.string(),
  events: z.array(z.string()),
  state: z.enum(WEBHOOK_STATES),
  /** Sequence number of the last audit event that was delivered or passed over. */
  position: z.int(),
  deliveredAtMs: timeMs.nullable(),
  /** Null when the last try was a success. */
  failingSinceMs: timeMs.nullable(),
});

export type WebhookEndpoint = z.infer<typeof webhookEndpointSchema>;

export const webhookQuerySchema = pageQuerySchema.extend({ state: z.enum(WEBHOOK_STATES).optional() });

export type WebhookQuery = z.output<typeof webhookQuerySchema>;

export type WebhookFilter = Partial<z.input<typeof webhookQuerySchema>>;

/** The only answer that ever holds a secret of a webhook. */
export const createdWebhookSchema = z.object({ webhookEndpoint: webhookEndpointSchema, secret: z.string() });

export type CreatedWebhook = z.infer<typeof createdWebhookSchema>;

/** One try to deliver one event. */
export const webhookAttemptSchema = z.object({
  sequence: z.int(),
  attemptedAtMs: timeMs,
  /** Of the answer; null when there was none. */
  status: z.int().nullable(),
  /** Null when it was delivered. */
  failure: z.string().nullable(),
});

export type WebhookAttempt = z.infer<typeof webhookAttemptSchema>;

export const webhookAttemptsSchema = z.object({ items: z.array(webhookAttemptSchema) });
