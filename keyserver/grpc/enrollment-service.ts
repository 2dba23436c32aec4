/** The Enrollment service of node.proto. */
import { LatchkeyError } from '#src/base/errors.ts';
import { ACTIVATIONS_BURST, ACTIVATIONS_PER_SECOND, MAX_COUNTED_PEERS } from '#src/base/limits.ts';
import { unaryHandler } from '#src/wire/unary.ts';
import type {
  ActivateRequest,
  ActivateResponse,
  EnrollmentServer,
} from '#src/wire/generated/latchkey/node.ts';
import { activate } from '../domain/activate.ts';
import type { KeyServer } from '../domain/key-server.ts';
import type { CallLog } from './call-log.ts';
import { renewCertificateAtMs } from './certificate-times.ts';
import { RateLimit } from './rate-limit.ts';

export function enrollmentService(server: KeyServer, log: CallLog): EnrollmentServer {
  const rate = new RateLimit(
    { perSecond: ACTIVATIONS_PER_SECOND, burst: ACTIVATIONS_BURST, maxPeers: MAX_COUNTED_PEERS },
    server.clock,
  );
  return {
    activate: unaryHandler<ActivateRequest, ActivateResponse>(async (request, call) => {
      // Before anything is written: everybody can reach this listener.
      if (!rate.take(call.getPeer())) {
        throw new LatchkeyError('LIMIT_EXCEEDED', 'too many activations from this address', {
          hint: 'try again in a minute',
        });
      }
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
  };
}
