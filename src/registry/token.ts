/**
 * Bearer tokens (distribution, "Token Authentication" and "OAuth2 Token Authentication"): a registry names a token server,
 * which gives a short-lived token for some repositories.
 */
import * as z from 'zod';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import {
  DEFAULT_TOKEN_LIFETIME_MS,
  MAX_REGISTRY_ERROR_BYTES,
  TOKEN_EXPIRY_SKEW_MS,
} from '#src/base/limits.ts';
import type { Challenge } from './challenge.ts';
import type { Credentials } from './credentials.ts';
import { isLinkLocalHost, isPrivateHost } from './endpoint.ts';
import { isInside, type ResolveHost } from './network-zone.ts';
import { registryError } from './registry-error.ts';
import type { RegistryRequest, Transport } from './transport.ts';

/** Named to token servers, for their logs. */
const CLIENT_ID = 'latchkey';

/** Some servers say `token`, some `access_token`, some both; `expires_in` is in seconds. */
const answerSchema = z.looseObject({
  token: z.string().optional(),
  access_token: z.string().optional(),
  expires_in: z.number().min(0).optional(),
});

interface Token {
  readonly value: string;
  readonly expiresAtMs: number;
}

export interface TokenSource {
  /**
   * A token for the scopes, from the cache while it is fresh; equal requests at the same time are one.
   * @throws LatchkeyError NET_UNAUTHORIZED, NET_REGISTRY, NET_*
   */
  get(challenge: Challenge, scopes: readonly string[], credentials: Credentials | undefined): Promise<string>;
  /** Forgets a token that the registry refused. */
  forget(value: string): void;
}

export interface TokenSourceOptions {
  /** As references name it. */
  readonly registry: string;
  /** Of its API; decides which token servers may be asked. */
  readonly origin: URL;
  /** Follows no redirects: credentials go to the realm alone. */
  readonly transport: Transport;
  readonly clock: Clock;
  readonly resolveHost: ResolveHost;
}

/** Tokens for one registry. */
export function createTokenSource(options: TokenSourceOptions): TokenSource {
  const { registry, origin, transport, clock, resolveHost } = options;
  const fresh = new Map<string, Token>();
  const underWay = new Map<string, Promise<Token>>();

  async function realmOf(challenge: Challenge): Promise<URL> {
    const named = challenge.parameters.get('realm');
    // Only for a realm inside it matters where the registry is, and a proxy may know names that we do not.
    const isInsideAsked = isPrivateHost(URL.parse(named ?? '')?.hostname ?? '');
    return checkRealm(named, origin, isInsideAsked && (await isInside(origin.hostname, resolveHost)));
  }

  async function fetchToken(
    key: string,
    challenge: Challenge,
    scopes: readonly string[],
    credentials: Credentials | undefined,
  ): Promise<Token> {
    const askedAtMs = clock.nowMs();
    const realm = await realmOf(challenge);
    const response = await transport(
      tokenRequest(realm, challenge.parameters.get('service'), scopes, credentials),
    );
    if (response.status !== 200) throw registryError(response, `log in to ${registry}`, registry);
    const token = parseToken(response.bytes, askedAtMs, registry);
    fresh.set(key, token);
    return token;
  }

  return {
    async get(challenge, scopes, credentials) {
      const key = JSON.stringify([
        challenge.parameters.get('realm'),
        challenge.parameters.get('service'),
        ...scopes,
      ]);
      const cached = fresh.get(key);
      if (cached !== undefined && clock.nowMs() < cached.expiresAtMs) return cached.value;
      let pending = underWay.get(key);
      if (pending === undefined) {
        pending = fetchToken(key, challenge, scopes, credentials).finally(() => underWay.delete(key));
        underWay.set(key, pending);
      }
      return (await pending).value;
    },
    forget(value) {
      for (const [key, token] of fresh) if (token.value === value) fresh.delete(key);
    },
  };
}

/**
 * The token server a challenge names. The registry chooses where our credentials go, so it may not choose plain HTTP
 * or a host inside our network, unless it is there itself.
 * @param isOriginInside whether the registry is in a private network, also where only its addresses tell
 * @throws LatchkeyError NET_REGISTRY
 */
export function checkRealm(
  realm: string | undefined,
  origin: URL,
  isOriginInside = isPrivateHost(origin.hostname),
): URL {
  const url = realm === undefined ? null : URL.parse(realm);
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new LatchkeyError('NET_REGISTRY', `${origin.host} asks for a login but names no token server`);
  }
  const isSameHost = url.hostname === origin.hostname;
  const isPlainRefused = url.protocol === 'http:' && origin.protocol !== 'http:';
  const isInsideRefused = isPrivateHost(url.hostname) && !isOriginInside;
  const isLinkLocalRefused = isLinkLocalHost(url.hostname) && !isSameHost;
  if (isPlainRefused || isInsideRefused || isLinkLocalRefused) {
    throw unsafeRealm(url, origin);
  }
  url.username = '';
  url.password = '';
  return url;
}

function unsafeRealm(realm: URL, origin: URL): LatchkeyError {
  return new LatchkeyError(
    'NET_REGISTRY',
    `${origin.host} names the token server ${realm.origin}, which is not safe`,
    {
      hint: 'credentials are not sent there; ask who runs the registry to name a token server on its own network by https',
    },
  );
}

function tokenRequest(
  realm: URL,
  service: string | undefined,
  scopes: readonly string[],
  credentials: Credentials | undefined,
): RegistryRequest {
  const asked = new URLSearchParams(service === undefined ? {} : { service });
  const shared = { scopes: [], answer: MAX_REGISTRY_ERROR_BYTES };
  if (credentials?.kind === 'identity-token') {
    asked.append('grant_type', 'refresh_token');
    asked.append('client_id', CLIENT_ID);
    asked.append('scope', scopes.join(' '));
    asked.append('refresh_token', credentials.token);
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    return { ...shared, method: 'POST', url: realm, headers, body: () => Buffer.from(asked.toString()) };
  }
  for (const scope of scopes) asked.append('scope', scope);
  const url = new URL(realm);
  for (const [name, value] of asked) url.searchParams.append(name, value);
  const headers = credentials === undefined ? {} : { authorization: basicAuthorization(credentials) };
  return { ...shared, method: 'GET', url, headers };
}

/** The Authorization header of RFC 7617. */
export function basicAuthorization(credentials: Extract<Credentials, { kind: 'password' }>): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;
}

function parseToken(bytes: Uint8Array, askedAtMs: number, registry: string): Token {
  const parsed = answerSchema.safeParse(parseAnswer(bytes, registry));
  const value = parsed.success ? (parsed.data.token ?? parsed.data.access_token) : undefined;
  if (!parsed.success || value === undefined || !/^[\x21-\x7e]+$/.test(value)) throw unreadable(registry);
  const seconds = parsed.data.expires_in;
  const lifetimeMs = seconds === undefined ? DEFAULT_TOKEN_LIFETIME_MS : seconds * 1000;
  // A life shorter than the skew would make every token stale at birth.
  return { value, expiresAtMs: askedAtMs + Math.max(lifetimeMs - TOKEN_EXPIRY_SKEW_MS, lifetimeMs / 2) };
}

/** The cause is dropped on purpose: it could quote the token. */
function parseAnswer(bytes: Uint8Array, registry: string): unknown {
  try {
    return parseJson(bytes, 'the token');
  } catch {
    throw unreadable(registry);
  }
}

function unreadable(registry: string): LatchkeyError {
  return new LatchkeyError('NET_REGISTRY', `the token server of ${registry} gave an unreadable answer`);
}
