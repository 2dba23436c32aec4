/** The Enrollment service of node.proto. */
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
import { type Rate, RateLimit, addressGroup, hostOfPeer } from '../rate-limit.ts';

/** @param rate of each call from one address */
export function enrollmentService(server: KeyServer, rate: Rate, log: CallLog): EnrollmentServer {
  const activations = new RateLimit(rate, server.clock);
  // One of its own for each, so that a challenge leaves room for its answer.
  const challengeRate = new RateLimit(rate, server.clock);
  const authentications = new RateLimit(rate, server.clock);
  const challenges = new Challenges(() => server.keys.lookupKey, server.clock);
  const authentication = new NodeAuthentication(server, challenges);
  return {
    activate: unaryHandler<ActivateRequest, ActivateResponse>(async (request, call) => {
      // Before anything is written: everybody can reach this listener.
      spend(activations, call, 'activations');
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
      spend(challengeRate, call, 'challenges');
      return Promise.resolve({ nonce: challenges.issue() });
    }, log),
    authenticate: unaryHandler<AuthenticateRequest, AuthenticateResponse>(async (request, call) => {
      spend(authentications, call, 'authentications');
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

/** @throws LatchkeyError RATE_LIMITED */
function spend(rate: RateLimit, call: { getPeer(): string }, what: string): void {
  rate.spend(addressGroup(hostOfPeer(call.getPeer())), `${what} from this address`);
}
