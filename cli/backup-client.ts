/** The backup of a key server, as it comes. */
import { LatchkeyError } from '#src/base/errors.ts';
import { type AdminClientOptions, fromProblem, parseAnswer, unreachable } from './admin-request.ts';

export class BackupClient {
  readonly #options: AdminClientOptions;

  constructor(options: AdminClientOptions) {
    this.#options = options;
  }

  /**
   * Asks for a backup, once: it takes the server's time, and whoever is cut off asks again.
   * @throws LatchkeyError the server's own, NET_UNREACHABLE also when it is cut off
   */
  async *backup(): AsyncGenerator<Uint8Array, void, undefined> {
    const { serverUrl, token, signal = null } = this.#options;
    const response = await fetch(new URL('/v1/sys/backup', serverUrl), {
      method: 'POST',
      headers: token === null ? {} : { authorization: `Bearer ${token}` },
      redirect: 'error',
      signal,
    }).catch((error: unknown) => {
      throw signal?.aborted === true ? error : unreachable(serverUrl, error);
    });
    const { body, ok, status } = response;
    if (!ok) throw fromProblem(parseAnswer(await response.text(), serverUrl), status, serverUrl);
    if (body === null) return;
    try {
      yield* body;
    } catch (error) {
      if (signal?.aborted === true) throw error;
      throw new LatchkeyError('NET_UNREACHABLE', 'the key server ended the backup before it was whole', {
        hint: 'its log says why; nothing was kept of it',
        cause: error,
      });
    }
  }
}
