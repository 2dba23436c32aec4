/**
 * A registry in this process that follows the distribution spec until a test tells it to misbehave. It records every
 * request, so a test can look at what was sent where.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { handleToken, isAuthorized, refuse, type FakeAuthentication } from './registry-authentication.ts';

export interface RecordedRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage['headers'];
}

/** Handles a request in the registry's place when it returns true. */
export type Misbehaviour = (
  request: RecordedRequest,
  response: ServerResponse,
  incoming: IncomingMessage,
) => boolean | Promise<boolean>;

export interface FakeManifest {
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

export interface FakeRegistry {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  readonly requests: RecordedRequest[];
  /** `name@digest` -> content. */
  readonly blobs: Map<string, Buffer>;
  /** `name@tag-or-digest` -> manifest. */
  readonly manifests: Map<string, FakeManifest>;
  /** Upload ID -> bytes so far. */
  readonly uploads: Map<string, Buffer>;
  /** Asked for each request, first to last. */
  readonly misbehaviours: Misbehaviour[];
  stop(): Promise<void>;
}

export async function startFakeRegistry(authentication?: FakeAuthentication): Promise<FakeRegistry> {
  const state = {
    requests: [] as RecordedRequest[],
    blobs: new Map<string, Buffer>(),
    manifests: new Map<string, FakeManifest>(),
    uploads: new Map<string, Buffer>(),
    misbehaviours: [] as Misbehaviour[],
  };
  const server = createServer((incoming, response) => {
    const url = new URL(incoming.url ?? '/', `http://${incoming.headers.host ?? 'localhost'}`);
    const request = { method: incoming.method ?? '', url, headers: incoming.headers };
    state.requests.push(request);
    answer(state, authentication, request, response, incoming).catch((error: unknown) => {
      // A connection the test has cut cannot be answered.
      if (!response.destroyed) response.writeHead(599).end(String(error));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    ...state,
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

type State = Omit<FakeRegistry, 'host' | 'stop'>;

async function answer(
  state: State,
  authentication: FakeAuthentication | undefined,
  request: RecordedRequest,
  response: ServerResponse,
  incoming: IncomingMessage,
): Promise<void> {
  for (const misbehave of state.misbehaviours) {
    if (await misbehave(request, response, incoming)) return;
  }
  if (authentication !== undefined) {
    if (request.url.pathname === '/token') {
      handleToken(authentication, request, response, (await readBody(incoming)).toString());
      return;
    }
    if (!isAuthorized(authentication, request)) {
      refuse(authentication, request, response);
      return;
    }
  }
  const match = /^\/v2\/(.+)\/(blobs\/uploads|blobs|manifests)\/([^/]*)$/.exec(request.url.pathname);
  if (match === null) {
    response.writeHead(404).end();
    return;
  }
  const [, name = '', kind, reference = ''] = match;
  if (kind === 'manifests') await handleManifest(state, `${name}@${reference}`, request, response, incoming);
  else if (kind === 'blobs') handleBlob(state, `${name}@${reference}`, request, response);
  else await handleUpload(state, name, reference, request, response, incoming);
}

async function handleManifest(
  state: State,
  key: string,
  request: RecordedRequest,
  response: ServerResponse,
  incoming: IncomingMessage,
): Promise<void> {
  if (request.method === 'PUT') {
    const bytes = await readBody(incoming);
    const manifest = { mediaType: request.headers['content-type'] ?? '', bytes };
    const digest = sha256(bytes);
    state.manifests.set(key, manifest);
    state.manifests.set(`${key.slice(0, key.indexOf('@'))}@${digest}`, manifest);
    response.writeHead(201, { 'docker-content-digest': digest }).end();
    return;
  }
  const manifest = state.manifests.get(key);
  if (manifest === undefined) {
    sendError(response, 404, 'MANIFEST_UNKNOWN', 'manifest unknown');
    return;
  }
  response.writeHead(200, {
    'content-type': manifest.mediaType,
    'content-length': manifest.bytes.length,
    'docker-content-digest': sha256(manifest.bytes),
  });
  response.end(request.method === 'HEAD' ? undefined : manifest.bytes);
}

function handleBlob(state: State, key: string, request: RecordedRequest, response: ServerResponse): void {
  const blob = state.blobs.get(key);
  if (blob === undefined) {
    sendError(response, 404, 'BLOB_UNKNOWN', 'blob unknown to registry');
    return;
  }
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? -1);
  if (start >= blob.length) {
    response.writeHead(416).end();
    return;
  }
  const bytes = blob.subarray(Math.max(start, 0));
  response.writeHead(start >= 0 ? 206 : 200, {
    'content-length': bytes.length,
    ...(start >= 0 ? { 'content-range': `bytes ${start}-${blob.length - 1}/${blob.length}` } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : bytes);
}

async function handleUpload(
  state: State,
  name: string,
  id: string,
  request: RecordedRequest,
  response: ServerResponse,
  incoming: IncomingMessage,
): Promise<void> {
  if (request.method === 'POST') {
    startUpload(state, name, request, response);
    return;
  }
  const soFar = state.uploads.get(id);
  if (soFar === undefined) {
    sendError(response, 404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown');
    return;
  }
  if (request.method === 'GET') {
    uploadStatus(response, 204, request.url.pathname, soFar);
  } else if (request.method === 'DELETE') {
    state.uploads.delete(id);
    response.writeHead(204).end();
  } else if (request.method === 'PATCH') {
    if (!startsAt(request.headers['content-range'], soFar.length)) {
      response.writeHead(416).end();
      return;
    }
    const bytes = await readBody(incoming, (partial) =>
      state.uploads.set(id, Buffer.concat([soFar, partial])),
    );
    state.uploads.set(id, Buffer.concat([soFar, bytes]));
    uploadStatus(response, 202, request.url.pathname, Buffer.concat([soFar, bytes]));
  } else {
    finishUpload(state, name, id, Buffer.concat([soFar, await readBody(incoming)]), request, response);
  }
}

function startUpload(state: State, name: string, request: RecordedRequest, response: ServerResponse): void {
  const mounted = request.url.searchParams.get('mount');
  const blob = state.blobs.get(`${request.url.searchParams.get('from') ?? ''}@${mounted ?? ''}`);
  if (mounted !== null && blob !== undefined) {
    state.blobs.set(`${name}@${mounted}`, blob);
    response.writeHead(201, { location: `/v2/${name}/blobs/${mounted}` }).end();
    return;
  }
  const id = randomUUID();
  state.uploads.set(id, Buffer.alloc(0));
  uploadStatus(response, 202, `/v2/${name}/blobs/uploads/${id}`, Buffer.alloc(0));
}

function finishUpload(
  state: State,
  name: string,
  id: string,
  bytes: Buffer,
  request: RecordedRequest,
  response: ServerResponse,
): void {
  const digest = request.url.searchParams.get('digest') ?? '';
  if (sha256(bytes) !== digest) {
    sendError(response, 400, 'DIGEST_INVALID', 'provided digest did not match uploaded content');
    return;
  }
  state.uploads.delete(id);
  state.blobs.set(`${name}@${digest}`, bytes);
  response.writeHead(201, { location: `/v2/${name}/blobs/${digest}` }).end();
}

function uploadStatus(response: ServerResponse, status: number, path: string, soFar: Buffer): void {
  response.writeHead(status, { location: path, range: `0-${Math.max(0, soFar.length - 1)}` }).end();
}

function startsAt(contentRange: string | undefined, offset: number): boolean {
  return contentRange === undefined || contentRange.startsWith(`${offset}-`);
}

/** Answers with an error body of the distribution spec. */
export function sendError(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ errors: [{ code, message }] }));
}

/** Reads a request's body; what came before a cut is given to `onCut`. */
export async function readBody(
  incoming: IncomingMessage,
  onCut?: (partial: Buffer) => void,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
  } catch (error) {
    onCut?.(Buffer.concat(chunks));
    throw error;
  }
  return Buffer.concat(chunks);
}

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
