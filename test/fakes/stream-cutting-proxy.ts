/** A proxy between nodes and a key server that ends TLS, passes calls on and cuts streams, as some companies' proxies do. */
import 'reflect-metadata';
import { generateKeyPairSync } from 'node:crypto';
import { type IncomingHttpHeaders, connect, constants, createSecureServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { X509Certificate } from '@peculiar/x509';
import { createAuthority, issueServerCertificate } from '../../keyserver/custody/certificate-authority.ts';
import type { KeyServerCredentials } from '../../shim/agent/key-server.ts';

const STREAM_PATH = '/latchkey.node.v1.Nodes/WatchRevocations';

export interface StreamCuttingProxy {
  readonly address: string;
  /** What signs the proxy's certificate; its nodes were told to trust it. */
  readonly authorityPem: string;
  /** False lets streams through as well. */
  cutsStreams: boolean;
  close(): Promise<void>;
}

/** @param node in whose name the proxy speaks to the key server */
export async function startStreamCuttingProxy(
  keyServerAddress: string,
  node: KeyServerCredentials,
): Promise<StreamCuttingProxy> {
  const [authorityKeys, keys] = [p256(), p256()];
  const authorityCertificate = await createAuthority('Proxy', authorityKeys, Date.now());
  const authority = { authorityCertificate, authorityKey: authorityKeys.privateKey };
  const certificate = await issueServerCertificate(authority, keys.publicKey, ['127.0.0.1'], Date.now());
  const server = createSecureServer({
    key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }),
    cert: pemOf(certificate),
  });
  const upstream = connect(`https://${keyServerAddress}`, {
    ca: node.authorityPem,
    key: node.privateKeyPem,
    cert: node.certificatePem,
  });
  const proxy = { cutsStreams: true };
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    if (proxy.cutsStreams && headers[':path'] === STREAM_PATH) {
      stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      return;
    }
    const call = upstream.request(headers);
    call.on('error', () => {
      stream.close(constants.NGHTTP2_CANCEL);
    });
    call.on('response', (answer: IncomingHttpHeaders) => {
      stream.respond(answer, { waitForTrailers: true });
      call.pipe(stream);
    });
    call.on('trailers', (trailers: IncomingHttpHeaders) => {
      stream.on('wantTrailers', () => {
        stream.sendTrailers(trailers);
      });
    });
    stream.on('close', () => {
      call.close();
    });
    stream.pipe(call);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(proxy, {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    authorityPem: pemOf(authorityCertificate),
    close: async () => {
      upstream.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}

function p256() {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

function pemOf(der: Uint8Array): string {
  return new X509Certificate(Buffer.from(der)).toString('pem');
}
