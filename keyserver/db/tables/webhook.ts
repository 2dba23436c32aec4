/** Webhook endpoints and what was tried. */
import type { WebhookEndpoint } from '#src/wire/admin/webhook.ts';
import type { Row } from './row.ts';

export interface WebhookEndpointTable extends Row {
  readonly url: string;
  /** JSON */
  readonly events: string;
  state: WebhookEndpoint['state'];
  /** Under the organization key. */
  wrapped_secret: Uint8Array;
  position: number;
  delivered_at_ms: number | null;
  failing_since_ms: number | null;
}

export interface WebhookAttemptTable {
  readonly id: string;
  readonly endpoint_id: string;
  readonly sequence: number;
  readonly attempted_at_ms: number;
  readonly status: number | null;
  readonly failure: string | null;
}
