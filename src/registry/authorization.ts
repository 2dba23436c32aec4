/**
 * Authorization of requests to one registry: nothing until it asks, then Basic or a Bearer token. Only requests to the
 * registry's own origin carry it; uploads that it sends elsewhere go without.
 */
import { parseChallenges, type Challenge } from './challenge.ts';
import type { Credentials } from './credentials.ts';
import { unauthorized } from './registry-error.ts';
import { formatScopes } from './scope.ts';
import { basicAuthorization, type TokenSource } from './token.ts';
import type { RegistryRequest, RegistryResponse, Transport } from './transport.ts';

export interface AuthorizationOptions {
  /** As references name it, for credentials and messages. */
  readonly registry: string;
  readonly origin: URL;
  readonly credentials: () => Promise<Credentials | undefined>;
  readonly tokens: TokenSource;
}

const UNAUTHORIZED_STATUS = 401;

/**
 * A transport that logs in when the registry asks. A request is repeated once with fresh authorization; a second
 * refusal is returned.
 * @throws LatchkeyError NET_UNAUTHORIZED when there is no way to log in
 */
export function withAuthorization(transport: Transport, options: AuthorizationOptions): Transport {
  const { registry, origin, tokens } = options;
  let known: Challenge | undefined;
  let loading: Promise<Credentials | undefined> | undefined;

  function credentials(): Promise<Credentials | undefined> {
    loading ??= options.credentials().catch((error: unknown) => {
      loading = undefined;
      throw error;
    });
    return loading;
  }

  async function authorize(challenge: Challenge, scopes: readonly string[]): Promise<string> {
    const login = await credentials();
    if (challenge.scheme === 'bearer') return `Bearer ${await tokens.get(challenge, scopes, login)}`;
    if (login?.kind === 'password') return basicAuthorization(login);
    const found = login === undefined ? 'there are no credentials for it' : 'it takes no identity token';
    throw unauthorized(`${registry} asks for a user name and a password, but ${found}`, registry);
  }

  function send(request: RegistryRequest, authorization: string): Promise<RegistryResponse> {
    return transport({ ...request, headers: { ...request.headers, authorization } });
  }

  return async (request) => {
    if (request.url.origin !== origin.origin) return transport(request);
    const scopes = formatScopes(request.scopes);
    const sent = known === undefined ? undefined : await authorize(known, scopes);
    const response = await (sent === undefined ? transport(request) : send(request, sent));
    if (response.status !== UNAUTHORIZED_STATUS || response.url.origin !== origin.origin) return response;
    const challenge = chooseChallenge(response);
    if (challenge === undefined) return response;
    // Wrong user name or password stay wrong; a token may only have expired.
    if (sent !== undefined && challenge.scheme === 'basic' && known?.scheme === 'basic') return response;
    if (sent !== undefined) tokens.forget(sent.slice('Bearer '.length));
    known = challenge;
    return send(request, await authorize(challenge, withAskedScope(scopes, challenge)));
  };
}

/** Bearer before Basic: the password then goes to the token server alone. */
function chooseChallenge(response: RegistryResponse): Challenge | undefined {
  const challenges = parseChallenges(response.headers.get('www-authenticate') ?? '');
  return (
    challenges.find((challenge) => challenge.scheme === 'bearer') ??
    challenges.find((challenge) => challenge.scheme === 'basic')
  );
}

/** Our own scopes are enough for every registry that follows the spec; one that names another is taken at its word. */
function withAskedScope(scopes: readonly string[], challenge: Challenge): string[] {
  const asked =
    challenge.parameters
      .get('scope')
      ?.split(' ')
      .filter((scope) => scope !== '') ?? [];
  const isKnown = (scope: string): boolean => scopes.some((own) => covers(own, scope));
  return [...scopes, ...asked.filter((scope) => !isKnown(scope))].sort();
}

/** True when `own` allows at least what `asked` does, for the same repository. */
function covers(own: string, asked: string): boolean {
  const ownActions = own.slice(own.lastIndexOf(':') + 1).split(',');
  const askedActions = asked.slice(asked.lastIndexOf(':') + 1).split(',');
  const isSameRepository = own.slice(0, own.lastIndexOf(':')) === asked.slice(0, asked.lastIndexOf(':'));
  return isSameRepository && askedActions.every((action) => ownActions.includes(action));
}
