/** The Nodes service of node.proto: every call is checked against the database, not only the handshake. */
import { unaryHandler } from '#src/wire/unary.ts';
import type {
  AcquireLeaseRequest,
  AcquireLeaseResponse,
  NodesServer,
  RenewLeasesRequest,
  RenewLeasesResponse,
  RenewalResult,
  RotateCertificateRequest,
  RotateCertificateResponse,
} from '#src/wire/generated/latchkey/node.ts';
import { acquireLease } from '../domain/acquire-lease.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { type Renewal, renewLeases } from '../domain/renew-leases.ts';
import { rotateCertificate } from '../domain/rotate-certificate.ts';
import type { CallLog } from './call-log.ts';
import { renewCertificateAtMs } from './certificate-times.ts';
import { toDenial } from './denial-message.ts';
import { PeerCertificates } from './peer-certificate.ts';
import type { OpenStreams } from './revocation-stream.ts';

export function nodesService(server: KeyServer, streams: OpenStreams, log: CallLog): NodesServer {
  const certificates = new PeerCertificates();
  return {
    acquireLease: unaryHandler<AcquireLeaseRequest, AcquireLeaseResponse>(async (request, call) => {
      const identity = await certificates.identify(call, server.clock.nowMs());
      const answer = await acquireLease(server, identity, request);
      return { ...answer, serverTimeMs: server.clock.nowMs() };
    }, log),
    renewLeases: unaryHandler<RenewLeasesRequest, RenewLeasesResponse>(async (request, call) => {
      const identity = await certificates.identify(call, server.clock.nowMs());
      const { renewals, revision } = await renewLeases(
        server,
        identity,
        request.leaseIds,
        request.nodeTimeMs,
      );
      return { results: renewals.map(toResult), serverTimeMs: server.clock.nowMs(), revision };
    }, log),
    watchRevocations: (call) => {
      certificates.identify(call, server.clock.nowMs()).then(
        (identity) => {
          streams.open(call, identity);
        },
        (error: unknown) => {
          streams.refuse(call, error);
        },
      );
    },
    rotateCertificate: unaryHandler<RotateCertificateRequest, RotateCertificateResponse>(
      async (request, call) => {
        const identity = await certificates.identify(call, server.clock.nowMs());
        const certificate = await rotateCertificate(server, identity, request.certificateRequestDer);
        return {
          certificateDer: Buffer.from(certificate.der),
          certificateExpiresAtMs: certificate.expiresAtMs,
          certificateRenewAtMs: renewCertificateAtMs(server, certificate),
          serverTimeMs: server.clock.nowMs(),
        };
      },
      log,
    ),
  };
}

function toResult(renewal: Renewal): RenewalResult {
  return 'lease' in renewal
    ? { leaseId: renewal.leaseId, outcome: { $case: 'lease', value: renewal.lease } }
    : { leaseId: renewal.leaseId, outcome: { $case: 'denial', value: toDenial(renewal.denial) } };
}
