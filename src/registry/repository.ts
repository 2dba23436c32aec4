/** One repository of one registry: its URLs, its scopes, and requests that raise what an unexpected answer means. */
import type { LatchkeyError } from '#src/base/errors.ts';
import {
  MAX_REQUESTS_PER_HOST,
  REGISTRY_ANSWER_TIMEOUT_MS,
  REGISTRY_STALL_TIMEOUT_MS,
} from '#src/base/limits.ts';
import { withAuthorization } from './authorization.ts';
import type { Credentials, CredentialSource } from './credentials.ts';
import { registryOrigin, type EndpointOptions } from './endpoint.ts';
import { HostLimit } from './host-limit.ts';
import { systemResolveHost, withinZone, type ResolveHost } from './network-zone.ts';
import { withRedirects } from './redirect.ts';
import { registryError } from './registry-error.ts';
import { systemRetryTiming, withRetries, type RetryTiming } from './retry.ts';
import type { RepositoryScope } from './scope.ts';
import { createTokenSource } from './token.ts';
import { createExchange, type RegistryRequest, type RegistryResponse, type Transport } from './transport.ts';

export interface RegistryOptions extends EndpointOptions {
  /** Where credentials come from; without it, requests are anonymous. */
  readonly credentials?: CredentialSource | undefined;
  /** Addresses of a name; the system's resolver when left out. */
  readonly resolveHost?: ResolveHost | undefined;
  /** Shared by all repositories of a command; one of its own, of {@link MAX_REQUESTS_PER_HOST}, when left out. */
  readonly hostLimit?: HostLimit | undefined;
  /** How long an answer may take, and an upload stand still; {@link REGISTRY_ANSWER_TIMEOUT_MS} when left out. */
  readonly answerTimeoutMs?: number | undefined;
  /** How long a download may be silent; {@link REGISTRY_STALL_TIMEOUT_MS} when left out. */
  readonly stallTimeoutMs?: number | undefined;
  /** Time and chance of retries; the system's when left out. */
  readonly timing?: RetryTiming | undefined;
}

export interface Repository {
  /** As references name it. */
  readonly registry: string;
  readonly origin: URL;
  readonly name: string;
  /** `docker://registry/name`, for messages. */
  readonly location: string;
  readonly timing: RetryTiming;
  readonly stallTimeoutMs: number;
  /** A URL below the repository: `blobs/uploads/`. */
  url(path: string): URL;
  /**
   * Sends a request and returns the answer when its status is expected.
   * @param action for the message: `read the manifest`
   * @throws LatchkeyError NET_*, STATE_NOT_FOUND, LIMIT_EXCEEDED, INTERRUPTED
   */
  send(
    request: Omit<RegistryRequest, 'scopes'> & { readonly scopes?: readonly RepositoryScope[] },
    expected: readonly number[],
    action: string,
  ): Promise<RegistryResponse>;
  /** The error that an answer means, for callers that expect failures. */
  failure(response: RegistryResponse, action: string): LatchkeyError;
  readonly pullScope: RepositoryScope;
  readonly pushScope: RepositoryScope;
}

/** Opens a repository; no request is made. */
export function openRepository(registry: string, name: string, options: RegistryOptions = {}): Repository {
  const origin = registryOrigin(registry, options);
  const timing = options.timing ?? systemRetryTiming;
  const transport = stackTransport(registry, name, origin, options);
  const pullScope: RepositoryScope = { repository: name, actions: ['pull'] };
  const location = `docker://${registry}/${name}`;
  const failure = (response: RegistryResponse, action: string): LatchkeyError =>
    registryError(response, `${action} ${location}`, registry);
  return {
    registry,
    origin,
    name,
    location,
    timing,
    stallTimeoutMs: options.stallTimeoutMs ?? REGISTRY_STALL_TIMEOUT_MS,
    pullScope,
    pushScope: { repository: name, actions: ['pull', 'push'] },
    url: (path) => new URL(`/v2/${name}/${path}`, origin),
    send: async (request, expected, action) => {
      const response = await transport({ scopes: [pullScope], ...request });
      if (expected.includes(response.status)) return response;
      throw failure(response, action);
    },
    failure,
  };
}

/** Retries around authorization around redirects: each retry may log in anew, no hop sees a token it must not. */
function stackTransport(registry: string, name: string, origin: URL, options: RegistryOptions): Transport {
  const timing = options.timing ?? systemRetryTiming;
  const source = options.credentials;
  const credentials = (): Promise<Credentials | undefined> =>
    source === undefined ? Promise.resolve(undefined) : source(registry, name);
  const limit = options.hostLimit ?? new HostLimit(MAX_REQUESTS_PER_HOST);
  const answerTimeoutMs = options.answerTimeoutMs ?? REGISTRY_ANSWER_TIMEOUT_MS;
  const limited = limit.around(createExchange({ answerTimeoutMs, clock: timing.clock }));
  const resolveHost = options.resolveHost ?? systemResolveHost;
  const transport = withinZone(limited, origin, resolveHost);
  const tokens = createTokenSource({
    registry,
    origin,
    // What asks for a token is itself repeated when the token server does not answer.
    transport: withRetries(transport, timing, { repeatsLost: false }),
    clock: timing.clock,
    resolveHost,
  });
  const authorized = withAuthorization(withRedirects(transport), {
    registry,
    origin,
    credentials,
    tokens,
  });
  return withRetries(authorized, timing);
}
