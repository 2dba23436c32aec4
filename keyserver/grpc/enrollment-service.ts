/** The Enrollment service of node.proto. */
import { unaryHandler } from '#src/wire/unary.ts';
import type {
  ActivateRequest,
  ActivateResponse,
  EnrollmentServer,
} from '#src/wire/generated/latchkey/node.ts';
import { activate } from '../domain/activate.ts';
import type { KeyServer } from '../domain/key-server.ts';
import type { CallLog } from './call-log.ts';

export function enrollmentService(server: KeyServer, log: CallLog): EnrollmentServer {
  return {
    activate: unaryHandler<ActivateRequest, ActivateResponse>(async (request) => {
      const activation = await activate(server, {
        licenseKey: request.licenseKey,
        certificateRequest: request.certificateRequestDer,
        nodeName: request.nodeName,
        nodeTimeMs: request.nodeTimeMs,
      });
      return {
        nodeId: activation.nodeId,
        certificateDer: Buffer.from(activation.certificate.der),
        authorityDer: Buffer.from(server.keys.authorityCertificate),
        certificateExpiresAtMs: activation.certificate.expiresAtMs,
        licenseId: activation.licenseId,
        productCode: activation.productCode,
        contact: activation.contact,
        leaseVerificationJwk: server.leaseVerificationJwk,
      };
    }, log),
  };
}
