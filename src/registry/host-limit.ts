/** A bound on the requests that are under way to one host at the same time. */
import type { Transport } from './transport.ts';

interface Host {
  underWay: number;
  readonly waiting: (() => void)[];
}

/**
 * A transport that lets at most `limit` requests to one host be unanswered; others wait their turn. A streamed answer
 * counts until its head is there: who reads it may need the next request to go on.
 */
export function withHostLimit(transport: Transport, limit: number): Transport {
  const hosts = new Map<string, Host>();
  return async (request) => {
    const name = request.url.host;
    const host = hosts.get(name) ?? { underWay: 0, waiting: [] };
    hosts.set(name, host);
    if (host.underWay < limit) host.underWay += 1;
    else await new Promise<void>((resolve) => host.waiting.push(resolve));
    try {
      return await transport(request);
    } finally {
      // The place goes to the next in line, or is given up.
      const next = host.waiting.shift();
      if (next !== undefined) next();
      else host.underWay -= 1;
      if (host.underWay === 0) hosts.delete(name);
    }
  };
}
