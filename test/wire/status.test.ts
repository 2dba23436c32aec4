import { join } from 'node:path';
import { Metadata, type ServiceError, credentials, status as grpcStatus } from '@grpc/grpc-js';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ERROR_TABLE, type ErrorCode, LatchkeyError } from '#src/base/errors.ts';
import { AgentClient, type AgentServer, AgentService } from '#src/wire/generated/latchkey/agent.ts';
import { fromGrpcError, toGrpcStatus } from '#src/wire/status.ts';
import { callUnary, unaryHandler } from '#src/wire/unary.ts';
import { type SocketServer, serveOnSocket } from '../fakes/grpc-server.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const PEER = 'the agent';
let server: SocketServer;
let client: AgentClient;
/** What the handler of Activate does. */
let handle: (licenseKey: string) => Promise<string>;
let told: unknown[];

beforeEach(async () => {
  told = [];
  const service: AgentServer = {
    activate: unaryHandler(
      async ({ licenseKey }) => ({
        nodeId: await handle(licenseKey),
        licenseId: '',
        productCode: '',
        certificateExpiresAtMs: 0,
      }),
      (error) => told.push(error),
    ),
    status: () => undefined,
    preflight: () => undefined,
    reportUsage: () => undefined,
    requestOffline: () => undefined,
    importOffline: () => undefined,
    dropPlaintext: (_call, callback) => {
      callback({ code: grpcStatus.RESOURCE_EXHAUSTED, details: 'from another program' });
    },
  };
  server = await serveOnSocket(join(directory(), 'agent.sock'), [[AgentService, service]]);
  client = new AgentClient(`unix://${server.socketPath}`, credentials.createInsecure());
});
afterEach(() => {
  client.close();
  server.close();
});

/** Lets the far end fail with this; gives what arrives. */
async function overTheWire(error: Error): Promise<{ raw: ServiceError; error: LatchkeyError }> {
  handle = () => Promise.reject(error);
  const call = callUnary(client.activate.bind(client), { licenseKey: 'x' }, new Metadata(), {});
  const raw = await call.then(
    () => expect.fail('the call was answered'),
    (thrown: unknown) => thrown as ServiceError,
  );
  return { raw, error: fromGrpcError(raw, PEER) };
}

describe('an answer', () => {
  test('comes back as it was given', async () => {
    handle = (licenseKey) => Promise.resolve(`node of ${licenseKey}`);
    const answer = await callUnary(client.activate.bind(client), { licenseKey: 'k' }, new Metadata(), {});
    expect(answer.nodeId).toBe('node of k');
    expect(told).toEqual([]);
  });
});

describe('an error', () => {
  test('arrives as it was raised, of every code and with any text', async () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 40 });
    const options = fc.record({ hint: text, licenseId: text, contact: text }, { requiredKeys: [] });
    const code = fc.constantFrom(
      ...(Object.keys(ERROR_TABLE) as ErrorCode[]).filter((name) => name !== 'BUG_UNEXPECTED'),
    );
    await fc.assert(
      fc.asyncProperty(code, text, options, async (name, message, fields) => {
        const sent = new LatchkeyError(name, message, { ...fields, cause: new Error('stays here') });
        const { raw, error } = await overTheWire(sent);
        expect(raw.code).toBe(ERROR_TABLE[name].grpc);
        expect(error).toMatchObject({ code: name, message, ...fields });
        expect(error.line).toBe(sent.line);
        expect(JSON.stringify(raw.metadata.getMap())).not.toContain('stays here');
      }),
      { numRuns: 60 },
    );
  });

  test('shows its whole line to callers that know only gRPC', async () => {
    const sent = new LatchkeyError('DENIED_NODE_LIMIT', 'three nodes are in use', { contact: 'ask@acme' });
    expect((await overTheWire(sent)).raw.details).toBe(sent.line);
  });

  test('that is a defect shows nothing of what is inside, and is told to the log', async () => {
    const defect = new TypeError('password=secret');
    const { raw, error } = await overTheWire(defect);
    expect(raw.details).toBe('BUG_UNEXPECTED: internal error');
    expect(error).toMatchObject({ code: 'BUG_UNEXPECTED', message: 'internal error' });
    expect(JSON.stringify([raw.details, raw.metadata.toJSON()])).not.toContain('secret');
    expect(told).toEqual([defect]);
  });
});

describe('a call that does not get there', () => {
  async function failure(call: Promise<unknown>): Promise<LatchkeyError> {
    return call.then(
      () => expect.fail('the call was answered'),
      (error: unknown) => fromGrpcError(error, PEER),
    );
  }

  test('because nobody listens', async () => {
    server.close();
    const call = callUnary(client.status.bind(client), {}, new Metadata(), {});
    expect(await failure(call)).toMatchObject({
      code: 'NET_UNREACHABLE',
      message: 'the agent is unreachable',
    });
  });

  test.each([
    [
      'Last error: Error: self-signed certificate in certificate chain. Resolution note: ',
      'self-signed certificate in certificate chain',
    ],
    [
      'Last error: Error: 406D:error:0A00010B:SSL routines:tls_validate:wrong version number:../x.c:77:\n. Resolution note: ',
      'wrong version number',
    ],
    [
      "Last error: Error: Hostname/IP does not match certificate's altnames: Host: a. is not b. Resolution note: ",
      "Hostname/IP does not match certificate's altnames: Host: a. is not b",
    ],
  ])('because of %s', (details, reason) => {
    const error = Object.assign(new Error(details), {
      ...{ code: grpcStatus.UNAVAILABLE, details: `No connection established. ${details}` },
      metadata: new Metadata(),
    });
    expect(fromGrpcError(error, PEER)).toMatchObject({
      code: 'NET_TLS',
      message: `the agent was reached, but not by trusted TLS (${reason})`,
    });
  });

  test('in time', async () => {
    const call = callUnary(client.status.bind(client), {}, new Metadata(), { deadline: Date.now() + 50 });
    expect(await failure(call)).toMatchObject({ code: 'NET_TIMEOUT' });
  });

  test('because it was given up', async () => {
    const call = new Promise((_resolve, reject) => {
      const running = client.status({}, (error) => reject(error ?? new Error('the call was answered')));
      running.cancel();
    });
    expect(await failure(call)).toMatchObject({ code: 'INTERRUPTED' });
  });

  test('because the far end is older', () => {
    const error = Object.assign(new Error('12 UNIMPLEMENTED'), {
      code: grpcStatus.UNIMPLEMENTED,
      details: 'The server does not implement the method',
      metadata: new Metadata(),
    });
    expect(fromGrpcError(error, PEER)).toMatchObject({ code: 'INPUT_UNSUPPORTED' });
  });

  test('because the far end is another program: its words are kept', async () => {
    const call = callUnary(client.dropPlaintext.bind(client), {}, new Metadata(), {});
    expect(await failure(call)).toMatchObject({
      code: 'BUG_UNEXPECTED',
      message: 'the agent answered from another program',
    });
  });
});

describe('what only looks like our detail', () => {
  function failed(detail: Uint8Array): ServiceError {
    const metadata = new Metadata();
    metadata.set('latchkey-error-bin', Buffer.from(detail));
    return Object.assign(new Error('failed'), { code: grpcStatus.UNAVAILABLE, details: '', metadata });
  }

  test('is an error as gRPC says it, never a failure of ours', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          expect(fromGrpcError(failed(bytes), PEER).code).toBe('NET_UNREACHABLE');
        },
      ),
    );
    for (const text of ['null', '{"code":7,"message":"x"}', '{"code":"X"}', '{"code":"X","message":{}}']) {
      expect(fromGrpcError(failed(Buffer.from(text)), PEER).code).toBe('NET_UNREACHABLE');
    }
  });

  test('with a code of a later version is no defect of its message', () => {
    const detail = Buffer.from('{"code":"DENIED_NEW_REASON","message":"because","extra":1}');
    expect(fromGrpcError(failed(detail), PEER)).toMatchObject({ code: 'BUG_UNEXPECTED', message: 'because' });
  });
});

test('what is not of gRPC is not taken for it', () => {
  const error = new LatchkeyError('NET_TLS', 'x');
  expect(fromGrpcError(error, PEER)).toBe(error);
  expect(fromGrpcError(new TypeError('x'), PEER).code).toBe('BUG_UNEXPECTED');
  expect(toGrpcStatus('text')).toMatchObject({ code: grpcStatus.INTERNAL });
});
