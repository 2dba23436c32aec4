/** The Nodes service of node.proto: every call is checked against the database, not only the handshake. */
import { unaryHandler } from '#src/wire/unary.ts';
import type {
  AcknowledgeRevocationsRequest,
  AcknowledgeRevocationsResponse,
  AcquireLeaseRequest,
  AcquireLeaseResponse,
  ListChangesRequest,
  ListChangesResponse,
  NodesServer,
  OpenSessionRequest,
  OpenSessionResponse,
  PreflightRequest,
  PreflightResponse,
  RenewLeasesRequest,
  RenewLeasesResponse,
  RenewalResult,
  ReportPlaintextRequest,
  ReportPlaintextResponse,
  ReportUsageRequest,
  ReportUsageResponse,
  RotateCertificateRequest,
  RotateCertificateResponse,
} from '#src/wire/generated/latchkey/node.ts';
import { acknowledgeRevision } from '../domain/acknowledgements.ts';
import { acquireLease } from '../domain/acquire-lease.ts';
import type { ChangeReader } from '../domain/change-reader.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { reportUsageOfNode } from '../domain/node-usage.ts';
import { openSession } from '../domain/node-sessions.ts';
import { preflightOfNode } from '../domain/preflight.ts';
import { reportPlaintext } from '../domain/plaintext-reports.ts';
import { renewLeases } from '../domain/renew-leases.ts';
import { rotateCertificate } from '../domain/rotate-certificate.ts';
import type { Renewal } from '../domain/signed-renewals.ts';
import { type Rate, RateLimit, hostOfPeer } from '../rate-limit.ts';
import type { CallLog } from './call-log.ts';
import { renewCertificateAtMs } from './certificate-times.ts';
import { toDenial } from './denial-message.ts';
import { type CertifiedIdentity, type NodeCall, PeerCertificates } from './peer-certificate.ts';
import { type OpenStreams, toMessage } from './revocation-stream.ts';

/** Of a node that has not opened a session yet. */
const NO_POSITION = { sequence: 0, token: '', counter: 0 };

/** What the service shares with the rest of the node listener. */
export interface NodesServiceParts {
  /** Of the calls of one node. */
  readonly rate: Rate;
  readonly streams: OpenStreams;
  readonly changes: ChangeReader;
  readonly log: CallLog;
}

export function nodesService(
  server: KeyServer,
  { rate, streams, changes: changeReader, log }: NodesServiceParts,
): NodesServer {
  const certificates = new PeerCertificates();
  const calls = new RateLimit(rate, server.clock);
  const identify = (call: NodeCall): CertifiedIdentity => {
    let identity: CertifiedIdentity;
    try {
      identity = certificates.identify(call, server.clock.nowMs());
    } catch (error) {
      server.refusals.count('node-certificate', hostOfPeer(call.getPeer()));
      throw error;
    }
    calls.spend(identity.nodeId, 'calls of this node');
    return identity;
  };
  return {
    acquireLease: unaryHandler<AcquireLeaseRequest, AcquireLeaseResponse>(async (request, call) => {
      const identity = identify(call);
      const answer = await acquireLease(server, identity, request);
      return { ...answer, serverTimeMs: server.clock.nowMs() };
    }, log),
    renewLeases: unaryHandler<RenewLeasesRequest, RenewLeasesResponse>(async (request, call) => {
      const identity = identify(call);
      const { leaseIds, ...terms } = request;
      const { renewals, ...answer } = await renewLeases(server, identity, leaseIds, terms);
      return { ...answer, results: renewals.map(toResult), serverTimeMs: server.clock.nowMs() };
    }, log),
    watchRevocations: (call) => {
      try {
        streams.open(call, identify(call));
      } catch (error) {
        streams.refuse(call, error);
      }
    },
    listChanges: unaryHandler<ListChangesRequest, ListChangesResponse>(
      async ({ afterRevision, position }, call) => {
        const identity = identify(call);
        const since = await changeReader.read({ identity, afterRevision, position });
        // The denial of each license goes with a refusal of the node on a stream; here the refusal says it all.
        if (since.nodeDenial !== null) throw since.nodeDenial;
        const { changes, revision } = since;
        return { changes: changes.map(toMessage), revision, serverTimeMs: server.clock.nowMs() };
      },
      log,
    ),
    openSession: unaryHandler<OpenSessionRequest, OpenSessionResponse>(async (request, call) => {
      const identity = identify(call);
      const { isRunning, requestId, machine, boot, bootTimeMs, seenRevision } = request;
      const { sequence, token, counter } = request.position ?? NO_POSITION;
      const opening = { sequence, token, counter, isRunning, requestId, machine, boot, bootTimeMs };
      const opened = await openSession(server, identity, opening, seenRevision);
      return { ...opened, serverTimeMs: server.clock.nowMs() };
    }, log),
    reportPlaintext: unaryHandler<ReportPlaintextRequest, ReportPlaintextResponse>(async (request, call) => {
      await reportPlaintext(server, identify(call), request);
      return {};
    }, log),
    preflight: unaryHandler<PreflightRequest, PreflightResponse>(async (request, call) => {
      const identity = identify(call);
      const answer = await preflightOfNode(server, identity, request);
      return { ...answer, serverTimeMs: server.clock.nowMs() };
    }, log),
    acknowledgeRevocations: unaryHandler<AcknowledgeRevocationsRequest, AcknowledgeRevocationsResponse>(
      async (request, call) => {
        await acknowledgeRevision(server, identify(call), request);
        return {};
      },
      log,
    ),
    reportUsage: unaryHandler<ReportUsageRequest, ReportUsageResponse>(async (request, call) => {
      const counted = await reportUsageOfNode(server, identify(call), request);
      return { ...counted, serverTimeMs: server.clock.nowMs() };
    }, log),
    rotateCertificate: unaryHandler<RotateCertificateRequest, RotateCertificateResponse>(
      async (request, call) => {
        const identity = identify(call);
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
  return { leaseId: renewal.leaseId, outcome: toOutcome(renewal) };
}

function toOutcome(renewal: Renewal): RenewalResult['outcome'] {
  if ('lease' in renewal) return { $case: 'lease', value: renewal.lease };
  if ('listedLease' in renewal) return { $case: 'listedLease', value: renewal.listedLease };
  return { $case: 'denial', value: toDenial(renewal.denial) };
}
