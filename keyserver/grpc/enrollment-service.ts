/** The Enrollment service of node.proto. */
import { LatchkeyError } from '#src/base/errors.ts';
import { ACTIVATIONS_BURST, ACTIVATIONS_PER_SECOND, MAX_COUNTED_PEERS } from '../limits.ts';
import { unaryHandler } from '#src/wire/unary.ts';
import type {
  ActivateRequest,
  ActivateResponse,
  AuthenticateRequest,
  AuthenticateResponse,
  ChallengeRequest,
  ChallengeResponse,
  EnrollmentServer,
} from '#src/wire/generated/latchkey/node.ts';
import { activate } from '../domain/activate.ts';
import { NodeAuthentication } from '../domain/authenticate.ts';
import { Challenges } from '../domain/challenges.ts';
import type { KeyServer } from '../domain/key-server.ts';
import type { CallLog } from './call-log.ts';
import { renewCertificateAtMs } from './certificate-times.ts';
import { RateLimit } from '../rate-limit.ts';

export function enrollmentService(server: KeyServer, log: CallLog): EnrollmentServer {
  const limits = {
    perSecond: ACTIVATIONS_PER_SECOND,
    burst: ACTIVATIONS_BURST,
    maxPeers: MAX_COUNTED_PEERS,
  };
  const rate = new RateLimit(limits, server.clock);
  // One of its own for each, so that a challenge leaves room for its answer.
  const challengeRate = new RateLimit(limits, server.clock);
  const authenticationRate = new RateLimit(limits, server.clock);
  const challenges = new Challenges(server.clock);
  const authentication = new NodeAuthentication(server, challenges);
  return {
    activate: unaryHandler<ActivateRequest, ActivateResponse>(async (request, call) => {
      // Before anything is written: everybody can reach this listener.
      refuseFlood(rate, call.getPeer(), 'activations');
      const activation = await activate(server, {
        licenseKey: request.licenseKey,
        joinToken: request.joinToken,
        certificateRequest: request.certificateRequestDer,
        nodeName: request.nodeName,
        installation: request.installation,
        nodeTimeMs: request.nodeTimeMs,
      });
      const { certificate } = activation;
      return {
        nodeId: activation.nodeId,
        certificateDer: Buffer.from(certificate.der),
        authorityDer: Buffer.from(server.keys.authorityCertificate),
        certificateExpiresAtMs: certificate.expiresAtMs,
        certificateRenewAtMs: renewCertificateAtMs(server, certificate),
        licenseId: activation.licenseId,
        productCode: activation.productCode,
        contact: activation.contact,
        leaseVerificationJwk: server.leaseVerificationJwk,
        releaseVerificationJwk: server.releaseVerificationJwk,
      };
    }, log),
    challenge: unaryHandler<ChallengeRequest, ChallengeResponse>((_request, call) => {
      refuseFlood(challengeRate, call.getPeer(), 'challenges');
      return Promise.resolve({ nonce: challenges.issue() });
    }, log),
    authenticate: unaryHandler<AuthenticateRequest, AuthenticateResponse>(async (request, call) => {
      refuseFlood(authenticationRate, call.getPeer(), 'authentications');
      const { nodeId, nonce, signature, certificateRequestDer: certificateRequest } = request;
      const proof = { nodeId, certificateRequest, nonce, signature };
      const certificate = await authentication.authenticate(proof);
      return {
        certificateDer: Buffer.from(certificate.der),
        certificateExpiresAtMs: certificate.expiresAtMs,
        certificateRenewAtMs: renewCertificateAtMs(server, certificate),
        serverTimeMs: server.clock.nowMs(),
      };
    }, log),
  };
}

function refuseFlood(rate: RateLimit, peer: string, what: string): void {
  if (rate.take(peer)) return;
  throw new LatchkeyError('RATE_LIMITED', `too many ${what} from this address`, {
    hint: 'try again in a minute',
  });
}
