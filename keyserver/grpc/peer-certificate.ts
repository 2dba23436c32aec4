/**
 * Who is calling, from the client certificate. TLS has checked that our authority signed it and that it was
 * valid when the connection was made; a connection can outlive that, so the end is checked on every call.
 */
import { type X509Certificate, createHash } from 'node:crypto';
import { TLSSocket } from 'node:tls';
import { BoundedMap } from '#src/base/bounded-map.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { keyThumbprint } from '../custody/key-thumbprint.ts';
import { readNodeUri } from '../custody/node-uri.ts';
import type { NodeIdentity } from '../domain/acquire-lease.ts';

export interface CertifiedIdentity extends NodeIdentity {
  /** End of the certificate. */
  readonly expiresAtMs: number;
}

/** A call over mutual TLS. */
export interface NodeCall {
  getPeer(): string;
}

/** More certificates than this in use at once: the oldest are read again when they come back. */
const MAX_CACHED_CERTIFICATES = 10_000;

/** Reads client certificates, each once. */
export class PeerCertificates {
  readonly #identities = new BoundedMap<string, CertifiedIdentity>(MAX_CACHED_CERTIFICATES);
  /** TLS 1.3 shows one certificate for the life of a connection, and asking for it is dear (measured). */
  readonly #ofConnections = new WeakMap<object, CertifiedIdentity>();

  /** @throws LatchkeyError DENIED_NODE_NOT_ACTIVATED without a valid node certificate */
  identify(call: NodeCall, nowMs: number): CertifiedIdentity {
    const connection = connectionOf(call);
    let identity = connection && this.#ofConnections.get(connection);
    if (identity === undefined) {
      identity = this.#read(certificateOf(connection));
      if (connection !== undefined) this.#ofConnections.set(connection, identity);
    }
    refuseExpired(identity, nowMs);
    return identity;
  }

  #read(certificate: X509Certificate | undefined): CertifiedIdentity {
    if (certificate === undefined) throw notActivated('came without a certificate');
    const fingerprint = createHash('sha256').update(certificate.raw).digest('base64');
    const cached = this.#identities.get(fingerprint);
    if (cached !== undefined) return cached;
    const node = readNodeUri(certificate.subjectAltName);
    if (node === null) throw notActivated('came with a certificate that names no node');
    const identity: CertifiedIdentity = {
      nodeId: node.nodeId,
      keyThumbprint: node.keyThumbprint ?? keyThumbprint(certificate.publicKey),
      expiresAtMs: certificate.validToDate.getTime(),
    };
    this.#identities.set(fingerprint, identity);
    return identity;
  }
}

/** What grpc-js keeps of a call without showing it. */
interface InnerCall {
  readonly call?: InnerCall;
  /** Behind an interceptor. */
  readonly nextCall?: InnerCall;
  readonly stream?: { readonly session?: Connection };
}

interface Connection {
  readonly socket?: object;
}

/** The connection of a call; undefined when it is closed. */
function connectionOf(call: object): Connection | undefined {
  let inner: InnerCall | undefined = call;
  while (inner !== undefined && inner.stream === undefined) inner = inner.call ?? inner.nextCall;
  return inner?.stream?.session;
}

/** As `getAuthContext` of grpc-js does it, which reads every field of the certificate for ten times as long (measured). */
function certificateOf(connection: Connection | undefined): X509Certificate | undefined {
  const socket = connection?.socket;
  return socket instanceof TLSSocket && socket.authorized ? socket.getPeerX509Certificate() : undefined;
}

/** @throws LatchkeyError DENIED_NODE_NOT_ACTIVATED once the certificate has ended */
export function refuseExpired({ expiresAtMs }: CertifiedIdentity, nowMs: number): void {
  if (expiresAtMs <= nowMs) throw notActivated('came with a certificate that has expired');
}

function notActivated(reason: string): LatchkeyError {
  return new LatchkeyError('DENIED_NODE_NOT_ACTIVATED', `the call ${reason}`, {
    hint: 'activate the node again: latchkey node activate, with the license key or a join token',
  });
}
