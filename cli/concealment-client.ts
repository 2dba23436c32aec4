/** What the admin API does with what the audit log conceals. */
import { concealedSchema } from '#src/wire/admin/audit.ts';
import { type AdminClientOptions, checkedAnswer, requestAdminApi } from './admin-request.ts';

/** Every method @throws LatchkeyError: the server's own, NET_UNREACHABLE, or INPUT_MALFORMED for a strange answer. */
export class ConcealmentClient {
  readonly #options: AdminClientOptions;

  constructor(options: AdminClientOptions) {
    this.#options = options;
  }

  /** A text as the log conceals it. */
  async concealedText(text: string): Promise<string> {
    const answer = await requestAdminApi(this.#options, 'POST', 'audit-events:conceal', { text });
    return checkedAnswer(answer, concealedSchema).concealed;
  }

  /** Destroys the key. */
  async shred(): Promise<void> {
    await requestAdminApi(this.#options, 'POST', 'audit-events:shred', undefined);
  }
}
