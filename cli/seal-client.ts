/** What the admin API does without a token: say whether it is sealed, and take what opens its keys. */
import { type SealStatus, type UnsealInput, sealStatusSchema } from '#src/wire/admin/seal.ts';
import { checkedAnswer, requestAdminApi } from './admin-request.ts';

export class SealClient {
  readonly #options: { readonly serverUrl: string; readonly token: null; readonly signal: AbortSignal };

  constructor(serverUrl: string, signal: AbortSignal) {
    this.#options = { serverUrl, token: null, signal };
  }

  async status(): Promise<SealStatus> {
    return checkedAnswer(
      await requestAdminApi(this.#options, 'GET', 'sys/seal-status', undefined),
      sealStatusSchema,
    );
  }

  async unseal(input: UnsealInput): Promise<SealStatus> {
    return checkedAnswer(await requestAdminApi(this.#options, 'POST', 'sys/unseal', input), sealStatusSchema);
  }
}
