/** When a node should ask for its next certificate. */
import { CERTIFICATE_RENEW_FRACTION, CERTIFICATE_RENEW_JITTER } from '#src/base/limits.ts';

export interface CertificateTerms {
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
  /** Uniform in [0, 1): spreads renewals, so that nodes do not come all at once. */
  readonly random: number;
}

/** Gives the moment, milliseconds since the epoch. */
export function certificateRenewAtMs({ issuedAtMs, expiresAtMs, random }: CertificateTerms): number {
  const jitter = 1 + CERTIFICATE_RENEW_JITTER * (2 * random - 1);
  return issuedAtMs + Math.floor((expiresAtMs - issuedAtMs) * CERTIFICATE_RENEW_FRACTION * jitter);
}
