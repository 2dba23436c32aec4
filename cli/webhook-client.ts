/** What the admin API does with webhook endpoints. */
import {
  type CreatedWebhook,
  type WebhookAttempt,
  type WebhookEndpoint,
  type WebhookFilter,
  type WebhookInput,
  createdWebhookSchema,
  webhookAttemptsSchema,
  webhookEndpointSchema,
} from '#src/wire/admin/webhook.ts';
import { AdminConnection } from './admin-connection.ts';
import { requestAdminApi } from './admin-request.ts';

const COLLECTION = 'webhook-endpoints';

/** Every method @throws LatchkeyError: the server's own, NET_UNREACHABLE, or INPUT_MALFORMED for a strange answer. */
export class WebhookClient extends AdminConnection {
  create(input: WebhookInput): Promise<CreatedWebhook> {
    return this.post(COLLECTION, input, createdWebhookSchema);
  }

  /** Those that were deleted are among them. */
  endpoints(filter: WebhookFilter = {}): Promise<WebhookEndpoint[]> {
    return this.list(COLLECTION, webhookEndpointSchema, filter);
  }

  async attempts(id: string): Promise<WebhookAttempt[]> {
    return (await this.get(`${pathOf(id)}/attempts`, webhookAttemptsSchema)).items;
  }

  setState(id: string, verb: 'enable' | 'disable'): Promise<WebhookEndpoint> {
    return this.post(`${pathOf(id)}:${verb}`, undefined, webhookEndpointSchema);
  }

  async delete(id: string): Promise<void> {
    await requestAdminApi(this.options, 'DELETE', pathOf(id), undefined);
  }
}

function pathOf(id: string): string {
  return `${COLLECTION}/${encodeURIComponent(id)}`;
}
