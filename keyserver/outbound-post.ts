/** One HTTP request to a program that is not ours. No redirect is followed, and of the answer only the status counts. */
import { type LookupFunction } from 'node:net';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { OUTBOUND_TLS_VERSION } from './outbound-tls.ts';

export interface OutboundPost {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Certificate that the server is verified with; null = those of the system. */
  readonly ca: Buffer | null;
  /** In place of the system's; decides which address is connected to. */
  readonly lookup?: LookupFunction | undefined;
  readonly signal: AbortSignal;
}

/**
 * Sends it over a connection of its own.
 * @returns the status of the answer
 * @throws the system's error, or the signal's reason
 */
export function post({ url, headers, body, ca, lookup, signal }: OutboundPost): Promise<number> {
  return new Promise((resolve, reject) => {
    const options = {
      method: 'POST',
      headers: { ...headers, 'user-agent': 'latchkey', 'content-length': body.length },
      agent: false,
      signal,
      ...(lookup === undefined ? {} : { lookup }),
    } as const;
    const request =
      url.protocol === 'https:'
        ? requestHttps(url, { ...options, minVersion: OUTBOUND_TLS_VERSION, ...(ca === null ? {} : { ca }) })
        : requestHttp(url, options);
    request.once('response', (response) => {
      resolve(response.statusCode ?? 0);
      // Who answers at length is not listened to.
      response.destroy();
    });
    request.once('error', reject);
    request.end(body);
  });
}
