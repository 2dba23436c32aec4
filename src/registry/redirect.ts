/**
 * Redirects followed by hand: registries send downloads to object storage, which must never see our token, and a hostile
 * one may send us anywhere.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_REDIRECTS } from '#src/base/limits.ts';
import { isLinkLocalHost } from './endpoint.ts';
import type { RegistryRequest, Transport } from './transport.ts';

const METHOD_KEEPING_REDIRECTS = new Set([307, 308]);
const READING_REDIRECTS = new Set([301, 302, 303]);

/**
 * A transport that follows redirects; from the first hop to another origin on, `authorization` stays behind.
 * @throws LatchkeyError NET_REGISTRY for a loop, an unreadable target, or one that {@link resolveLocation} refuses
 */
export function withRedirects(transport: Transport): Transport {
  return async (original) => {
    let request = original;
    for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
      const response = await transport(request);
      const target = response.headers.get('location');
      if (target === null || !isFollowed(request, response.status)) return response;
      await drain(response.stream);
      const url = resolveLocation(target, request.url);
      request = { ...request, url, headers: headersFor(url, request) };
    }
    throw new LatchkeyError(
      'NET_REGISTRY',
      `${original.url.host} redirects more than ${MAX_REDIRECTS} times`,
    );
  };
}

/**
 * The URL that a Location header names.
 * @throws LatchkeyError NET_REGISTRY when it is not HTTP, leaves TLS, or names a link-local host
 */
export function resolveLocation(location: string, base: URL): URL {
  let url: URL;
  try {
    url = new URL(location, base);
  } catch (error) {
    throw new LatchkeyError('NET_REGISTRY', `${base.host} sent an unreadable Location`, { cause: error });
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw new LatchkeyError('NET_REGISTRY', `${base.host} sends us to ${url.protocol}, which is not HTTP`);
  }
  if (base.protocol === 'https:' && url.protocol === 'http:') {
    throw new LatchkeyError('NET_REGISTRY', `${base.host} sends us from HTTPS to plain HTTP at ${url.host}`, {
      hint: 'the registry does not know its own address; set its external URL to https',
    });
  }
  if (isLinkLocalHost(url.hostname) && url.hostname !== base.hostname) {
    throw new LatchkeyError(
      'NET_REGISTRY',
      `${base.host} sends us to the link-local address ${url.hostname}`,
    );
  }
  url.username = '';
  url.password = '';
  return url;
}

function isFollowed(request: RegistryRequest, status: number): boolean {
  if (METHOD_KEEPING_REDIRECTS.has(status)) return true;
  // Following these with another method would turn an upload into a download.
  return READING_REDIRECTS.has(status) && (request.method === 'GET' || request.method === 'HEAD');
}

function headersFor(url: URL, request: RegistryRequest): Record<string, string> {
  const headers = Object.entries(request.headers ?? {});
  if (url.origin === request.url.origin) return Object.fromEntries(headers);
  return Object.fromEntries(headers.filter(([name]) => name.toLowerCase() !== 'authorization'));
}

async function drain(stream: AsyncIterable<Uint8Array> | undefined): Promise<void> {
  // Ending the iteration at once gives the connection up instead of reading a body nobody wants.
  await stream?.[Symbol.asyncIterator]().return?.();
}
