/** What the admin API does with webhook endpoints. */
import { pageSchema } from '#src/wire/admin/page.ts';
import {
  type CreatedWebhook,
  type WebhookAttempt,
  type WebhookEndpoint,
  type WebhookInput,
  createdWebhookSchema,
  webhookAttemptsSchema,
  webhookEndpointSchema,
} from '#src/wire/admin/webhook.ts';
import { type AdminClientOptions, checkedAnswer, requestAdminApi } from './admin-request.ts';

const COLLECTION = 'webhook-endpoints';

/** Every method @throws LatchkeyError: the server's own, NET_UNREACHABLE, or INPUT_MALFORMED for a strange answer. */
export class WebhookClient {
  readonly #options: AdminClientOptions;

  constructor(options: AdminClientOptions) {
    this.#options = options;
  }

  async create(input: WebhookInput): Promise<CreatedWebhook> {
    return checkedAnswer(
      await requestAdminApi(this.#options, 'POST', COLLECTION, input),
      createdWebhookSchema,
    );
  }

  /** All of them: there are few. */
  async list(): Promise<WebhookEndpoint[]> {
    const answer = await requestAdminApi(this.#options, 'GET', COLLECTION, undefined);
    return checkedAnswer(answer, pageSchema(webhookEndpointSchema)).items;
  }

  async attempts(id: string): Promise<WebhookAttempt[]> {
    const answer = await requestAdminApi(this.#options, 'GET', `${pathOf(id)}/attempts`, undefined);
    return checkedAnswer(answer, webhookAttemptsSchema).items;
  }

  async change(id: string, verb: 'enable' | 'disable'): Promise<WebhookEndpoint> {
    const answer = await requestAdminApi(this.#options, 'POST', `${pathOf(id)}:${verb}`, undefined);
    return checkedAnswer(answer, webhookEndpointSchema);
  }

  async delete(id: string): Promise<void> {
    await requestAdminApi(this.#options, 'DELETE', pathOf(id), undefined);
  }
}

function pathOf(id: string): string {
  return `${COLLECTION}/${encodeURIComponent(id)}`;
}
