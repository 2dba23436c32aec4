/** Gets the node's next certificate in time, and goes on with the one it has while that does not work. */
import { X509Certificate } from 'node:crypto';
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import type { RotateCertificateResponse } from '#src/wire/generated/latchkey/node.ts';

const TICK_MS = 1000;
/** After a failure the node tries again after this part of the time that is left, within these bounds. */
const RETRY_PART = 0.1;
const RETRY_AT_LEAST_MS = 1000;
const RETRY_AT_MOST_MS = 3_600_000;

export interface CertificateTimes {
  readonly certificateExpiresAtMs: number;
  /** 0 = not known; then at once. */
  readonly certificateRenewAtMs: number;
}

export interface RotatingCertificate extends CertificateTimes {
  readonly certificatePem: string;
}

/**
 * The certificate in an answer of the key server.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function certificateOf(answer: Omit<RotateCertificateResponse, 'serverTimeMs'>): RotatingCertificate {
  const { certificateDer, certificateExpiresAtMs, certificateRenewAtMs } = answer;
  const certificatePem = readCertificate(certificateDer);
  return { certificatePem, certificateExpiresAtMs, certificateRenewAtMs };
}

/**
 * A certificate that the key server has sent, as PEM.
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function readCertificate(der: Uint8Array): string {
  try {
    return new X509Certificate(der).toString();
  } catch (error) {
    throw new LatchkeyError('INPUT_MALFORMED', 'the key server has sent something else than a certificate', {
      hint: 'it or something before it is at fault: tell the vendor',
      cause: error,
    });
  }
}

export interface CertificateRotationParts {
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** The times of the certificate that is in use; undefined = there is none. */
  readonly current: () => CertificateTimes | undefined;
  /** Gets the next certificate and puts it to use. */
  readonly rotate: () => Promise<void>;
  readonly onFailure: (error: unknown) => void;
}

export class CertificateRotation {
  readonly #parts: CertificateRotationParts;
  #timer: NodeJS.Timeout | undefined;
  #busy = false;
  #notBeforeMs = 0;

  constructor(parts: CertificateRotationParts) {
    this.#parts = parts;
  }

  start(): void {
    this.stop();
    this.#timer = setInterval(() => void this.rotateIfDue(), TICK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Rotates when it is time. An expired certificate is past rotating: the node has to be activated again. */
  async rotateIfDue(): Promise<void> {
    const { clock, random, current, rotate, onFailure } = this.#parts;
    const times = current();
    const nowMs = clock.nowMs();
    if (this.#busy || times === undefined || clock.monotonicMs() < this.#notBeforeMs) return;
    if (nowMs < times.certificateRenewAtMs || nowMs >= times.certificateExpiresAtMs) return;
    this.#busy = true;
    try {
      await rotate();
    } catch (error) {
      const leftMs = times.certificateExpiresAtMs - nowMs;
      const waitMs = Math.min(RETRY_AT_MOST_MS, Math.max(RETRY_AT_LEAST_MS, leftMs * RETRY_PART));
      this.#notBeforeMs = clock.monotonicMs() + waitMs * (0.5 + random());
      onFailure(error);
    } finally {
      this.#busy = false;
    }
  }
}
