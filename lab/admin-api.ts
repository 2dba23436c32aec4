/** The few calls of the admin API that a lab makes; the product's own client is in `cli`. */
import type {
  CreatedLicense,
  LicenseInput,
  Organization,
  Product,
  ReleaseInput,
} from '#src/wire/admin-api.ts';

export class AdminApi {
  readonly #url: string;
  readonly #token: string;

  constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
  }

  organization(): Promise<Organization> {
    return this.#call('GET', '/v1/organization');
  }

  product(code: string): Promise<Product> {
    return this.#call('GET', `/v1/products/${code}`);
  }

  createProduct(code: string, contact: string): Promise<Product> {
    return this.#call('POST', '/v1/products', { code, name: code, contact });
  }

  async createCustomer(name: string): Promise<void> {
    await this.#call('POST', '/v1/customers', { name });
  }

  createLicense(
    input: Partial<LicenseInput> & Pick<LicenseInput, 'customer' | 'product'>,
  ): Promise<CreatedLicense> {
    return this.#call('POST', '/v1/licenses', input);
  }

  async changeLicense(id: string, verb: 'suspend' | 'reinstate' | 'revoke'): Promise<void> {
    await this.#call('POST', `/v1/licenses/${id}:${verb}`, {});
  }

  async registerRelease(input: ReleaseInput): Promise<void> {
    await this.#call('POST', '/v1/releases', input);
  }

  async #call<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const response = await fetch(`${this.#url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`);
    return (text === '' ? undefined : JSON.parse(text)) as Answer;
  }
}
