/** A bound on the requests that are under way to one host at the same time. */
import type { Transport } from './transport.ts';

interface Host {
  underWay: number;
  readonly waiting: (() => void)[];
}

/** Counts the requests of all transports around which it is put, so that source and destination share one bound. */
export class HostLimit {
  readonly #limit: number;
  readonly #hosts = new Map<string, Host>();

  /** @param limit how many requests to one host may be unanswered */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /**
   * A transport whose requests wait their turn. A streamed answer counts until its head is there: who reads it may need
   * the next request to go on.
   */
  around(transport: Transport): Transport {
    return async (request) => {
      const name = request.url.host;
      const host = this.#hosts.get(name) ?? { underWay: 0, waiting: [] };
      this.#hosts.set(name, host);
      if (host.underWay < this.#limit) host.underWay += 1;
      else await new Promise<void>((resolve) => host.waiting.push(resolve));
      try {
        return await transport(request);
      } finally {
        // The place goes to the next in line, or is given up.
        const next = host.waiting.shift();
        if (next !== undefined) next();
        else host.underWay -= 1;
        if (host.underWay === 0) this.#hosts.delete(name);
      }
    };
  }
}
