/** Policies of the admin API as functions. */
import { type Policy, type PolicyRequest, type PolicyUpdate, policySchema } from '#src/wire/admin/policy.ts';
import { readAllPages } from './admin-pages.ts';
import { type AdminClientOptions, checkedAnswer, requestAdminApi } from './admin-request.ts';

/** Every method @throws LatchkeyError as those of AdminClient do. */
export class PolicyClient {
  readonly #options: AdminClientOptions;

  constructor(options: AdminClientOptions) {
    this.#options = options;
  }

  create(input: PolicyRequest): Promise<Policy> {
    return this.#ask('POST', 'policies', input);
  }

  show(code: string): Promise<Policy> {
    return this.#ask('GET', `policies/${encodeURIComponent(code)}`);
  }

  list(): Promise<Policy[]> {
    return readAllPages(this.#options, 'policies', policySchema);
  }

  update(code: string, update: PolicyUpdate): Promise<Policy> {
    return this.#ask('PATCH', `policies/${encodeURIComponent(code)}`, update);
  }

  async #ask(method: string, path: string, body?: unknown): Promise<Policy> {
    return checkedAnswer(await requestAdminApi(this.#options, method, path, body), policySchema);
  }
}
