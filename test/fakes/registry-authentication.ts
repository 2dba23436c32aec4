/** How the fake registry asks who is there: Basic, or tokens from its own /token. */
import type { ServerResponse } from 'node:http';
import { sendError, type RecordedRequest } from './registry.ts';

export interface FakeLogin {
  readonly user: string;
  readonly password: string;
}

export interface FakeBasic {
  readonly kind: 'basic';
  readonly login: FakeLogin;
}

export interface FakeBearer {
  readonly kind: 'bearer';
  /** The field of the answer that holds the token. */
  readonly field: 'token' | 'access_token';
  /** Undefined: anybody gets a token. */
  readonly login?: FakeLogin | undefined;
  /** An OAuth2 refresh token that is exchanged for tokens. */
  readonly refreshToken?: string | undefined;
  readonly expiresInSeconds?: number | undefined;
  /** In place of the registry's own token server. */
  readonly realm?: string | undefined;
  /** Tokens given out, with their scopes; a test may delete one to let it expire. */
  readonly issued: Map<string, string[]>;
}

export type FakeAuthentication = FakeBasic | FakeBearer;

export function isAuthorized(authentication: FakeAuthentication, request: RecordedRequest): boolean {
  const sent = request.headers.authorization ?? '';
  if (authentication.kind === 'basic') return sent === basic(authentication.login);
  const scopes = authentication.issued.get(sent.replace(/^Bearer /, ''));
  return scopes?.some((scope) => scope.startsWith(`repository:${repositoryOf(request)}:`)) === true;
}

export function refuse(
  authentication: FakeAuthentication,
  request: RecordedRequest,
  response: ServerResponse,
): void {
  const realm =
    authentication.kind === 'bearer' ? (authentication.realm ?? `http://${request.url.host}/token`) : 'test';
  response.setHeader(
    'www-authenticate',
    authentication.kind === 'basic'
      ? `Basic realm="${realm}"`
      : `Bearer realm="${realm}",service="fake",scope="repository:${repositoryOf(request)}:pull"`,
  );
  sendError(response, 401, 'UNAUTHORIZED', 'authentication required');
}

export function handleToken(
  authentication: FakeAuthentication,
  request: RecordedRequest,
  response: ServerResponse,
  body: string,
): void {
  if (authentication.kind !== 'bearer' || !mayHaveToken(authentication, request, new URLSearchParams(body))) {
    sendError(response, 401, 'UNAUTHORIZED', 'incorrect username or password');
    return;
  }
  const form = new URLSearchParams(body);
  const scopes = request.method === 'POST' ? form.getAll('scope') : request.url.searchParams.getAll('scope');
  const token = `token-${authentication.issued.size + 1}`;
  authentication.issued.set(
    token,
    scopes.flatMap((scope) => scope.split(' ')),
  );
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(
    JSON.stringify({ [authentication.field]: token, expires_in: authentication.expiresInSeconds }),
  );
}

function mayHaveToken(authentication: FakeBearer, request: RecordedRequest, form: URLSearchParams): boolean {
  if (request.method === 'POST') return form.get('refresh_token') === authentication.refreshToken;
  return authentication.login === undefined || request.headers.authorization === basic(authentication.login);
}

function basic(login: FakeLogin): string {
  return `Basic ${Buffer.from(`${login.user}:${login.password}`).toString('base64')}`;
}

function repositoryOf(request: RecordedRequest): string {
  return /^\/v2\/(.+?)\/(?:blobs|manifests)\//.exec(request.url.pathname)?.[1] ?? '';
}
