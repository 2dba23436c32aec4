/** A node that comes back with a TLS ticket: who takes it, for how long, and that it opens nothing that is closed by now. */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ConnectionOptions, type TLSSocket, createSecureContext } from 'node:tls';
import { Metadata } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type ListChangesResponse, NodesClient } from '#src/wire/generated/latchkey/node.ts';
import { fromGrpcError } from '#src/wire/status.ts';
import { callUnary } from '#src/wire/unary.ts';
import { SealClient } from '../../cli/seal-client.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { ResumedTls } from '../../shim/agent/resumed-tls.ts';
import { ResumingCredentials } from '../../shim/agent/resuming-credentials.ts';

import { type LicensedNode, activateNode } from '../fakes/licensed-node.ts';
import { adminClient, createSoldProduct } from '../fakes/sold-product.ts';

let server: TestKeyServer;
let licenseKey: string;

beforeAll(async () => {
  server = await startKeyServer();
  ({ licenseKey } = await (await createSoldProduct(server)).sell());
});

afterAll(() => server.dispose());

async function restart(args: readonly string[] = []): Promise<void> {
  await server.stop();
  server = await startKeyServer({ dataDirectory: server.dataDirectory, args });
}

/** Keeps its sockets, which know whether they were resumed. */
class WatchedTls extends ResumedTls {
  readonly sockets: TLSSocket[] = [];

  override connect(options: ConnectionOptions & { readonly host: string }): TLSSocket {
    const socket = super.connect(options);
    this.sockets.push(socket);
    return socket;
  }

  get wasResumed(): boolean {
    return this.sockets.at(-1)?.isSessionReused() ?? false;
  }
}

/** The TLS of an agent with the certificate of a node, or of somebody without. */
function tlsOf(node?: LicensedNode): WatchedTls {
  const own =
    node === undefined
      ? {}
      : {
          cert: new X509Certificate(node.activation.certificateDer).toString(),
          key: node.key.privateKey.export({ type: 'pkcs8', format: 'pem' }),
        };
  return new WatchedTls(createSecureContext({ ca: server.authorityPem, ...own }));
}

/** A call over a new connection. */
async function callWith(tls: ResumedTls, address = server.nodeAddress): Promise<ListChangesResponse> {
  const client = new NodesClient(address, new ResumingCredentials('localhost', tls));
  try {
    const request = { afterRevision: 0, position: undefined };
    return await callUnary(client.listChanges.bind(client), request, new Metadata(), {});
  } catch (error) {
    throw fromGrpcError(error, 'key server');
  } finally {
    client.close();
  }
}

async function newNode(): Promise<LicensedNode> {
  const node = await activateNode(server, licenseKey);
  node.close();
  return node;
}

it('is known by its ticket, also to a key server that was started again', async () => {
  const tls = tlsOf(await newNode());
  await callWith(tls);
  expect(tls.wasResumed).toBe(false);
  await callWith(tls);
  expect(tls.wasResumed).toBe(true);
  await restart();
  await callWith(tls);
  expect(tls.wasResumed).toBe(true);
});

it('is looked up for every call all the same', async () => {
  const node = await newNode();
  const tls = tlsOf(node);
  await callWith(tls);
  await adminClient(server).changeNode(node.activation.nodeId, 'ban');
  await expect(callWith(tls)).rejects.toMatchObject({ code: 'DENIED_NODE_BANNED' });
  expect(tls.wasResumed).toBe(true);
});

it('makes a whole handshake after the key server was sealed, and after it was unsealed', async () => {
  const tls = tlsOf(await newNode());
  await callWith(tls);
  const signal = new AbortController().signal;
  const { organizationId } = await new SealClient(server.adminUrl, signal).status();
  await adminClient(server).seal({ organizationId, reason: 'a test' });
  await expect(callWith(tls)).rejects.toMatchObject({ code: 'DENIED_SEALED' });
  expect(tls.wasResumed).toBe(false);
  const rootKey = (await readFile(join(server.dataDirectory, 'root.key'), 'utf8')).trim();
  await new SealClient(server.adminUrl, signal).unseal({ rootKey });
  await callWith(tls);
  expect(tls.wasResumed).toBe(false);
  await callWith(tls);
  expect(tls.wasResumed).toBe(true);
});

/** By the time the refusal has arrived, a client may or may not think that it is connected. */
const NOT_CONNECTED = { code: expect.stringMatching(/^NET_(TLS|UNREACHABLE)$/) as string };

it('comes to the port for nodes with no ticket of the port for everybody', async () => {
  const tls = tlsOf();
  // There is no such call at that port; its ticket comes all the same.
  await expect(callWith(tls, server.enrollAddress)).rejects.toThrow();
  await expect(callWith(tls, server.enrollAddress)).rejects.toThrow();
  expect(tls.wasResumed).toBe(true);
  await expect(callWith(tls)).rejects.toMatchObject(NOT_CONNECTED);
  expect(tls.wasResumed).toBe(false);
});
