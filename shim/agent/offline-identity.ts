/** Who a node is after it has imported an offline bundle. Pure. */
import type { OpenedBundle } from './offline-bundle.ts';
import { readCertificate } from './certificate-rotation.ts';
import type { NodeIdentity } from './node-identity.ts';

/**
 * The identity of before with the license of the bundle; of a node that had none, the one that came with the bundle.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function identityWith(
  { claims, signerKey }: OpenedBundle,
  before: NodeIdentity | undefined,
  authorityPem: string,
): NodeIdentity {
  const { licenseId, productCode, contact, certificate, nodeId, releaseVerificationJwk } = claims;
  const others = before?.licenses.filter((license) => license.licenseId !== licenseId) ?? [];
  return {
    nodeId,
    ...(certificate === null
      ? {
          certificatePem: before?.certificatePem ?? '',
          certificateExpiresAtMs: before?.certificateExpiresAtMs ?? 0,
          certificateRenewAtMs: before?.certificateRenewAtMs ?? 0,
        }
      : {
          certificatePem: readCertificate(Buffer.from(certificate.der, 'base64')),
          certificateExpiresAtMs: certificate.expiresAtMs,
          certificateRenewAtMs: certificate.renewAtMs,
        }),
    authorityPem: before?.authorityPem ?? authorityPem,
    leaseVerificationJwk: before?.leaseVerificationJwk ?? JSON.stringify(signerKey.export({ format: 'jwk' })),
    releaseVerificationJwk,
    licenses: [...others, { licenseId, productCode, contact }],
  };
}
