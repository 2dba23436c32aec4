/** Why there is no lease, in the words that a start is told. Pure. */
import { LatchkeyError, isDeniedCode, isErrorCode } from '#src/base/errors.ts';
import type { LeaseClaims } from '#src/licensing/lease-claims.ts';
import type { Denial } from '#src/wire/generated/latchkey/node.ts';

const ASK_AGAIN = 'the start is tried again when the key server answers';

/** What a start is told when no lease could be had: the denial itself, or that the key server is away. */
export function explainRefusal(
  error: LatchkeyError,
  before: LeaseClaims | undefined,
  contact: string | undefined,
): LatchkeyError {
  if (isDeniedCode(error.code)) {
    return new LatchkeyError(error.code, error.message, {
      hint: error.hint,
      licenseId: error.licenseId ?? before?.licenseId,
      contact: error.contact ?? before?.contact ?? contact,
      cause: error,
    });
  }
  const state = before === undefined ? 'no lease' : 'lease expired';
  const reason = isAway(error) && error.code !== 'NET_TLS' ? 'key server unreachable' : error.message;
  return new LatchkeyError('DENIED_LEASE_EXPIRED', `${state} (${reason})`, {
    hint: ASK_AGAIN,
    licenseId: before?.licenseId,
    contact: before?.contact ?? contact,
    cause: error,
  });
}

/** True when the key server was not reached; what it would have said is not known. */
export function isAway({ code }: LatchkeyError): boolean {
  return code.startsWith('NET_') || code === 'INTERRUPTED';
}

/** Of a lease whose time is up. */
export function expired(claims: LeaseClaims): LatchkeyError {
  return new LatchkeyError('DENIED_LEASE_EXPIRED', 'lease expired (key server unreachable)', {
    licenseId: claims.licenseId,
    contact: claims.contact,
  });
}

/** A denial as the key server words it. */
export function fromDenial(denial: Denial): LatchkeyError {
  const code = isErrorCode(denial.code) ? denial.code : 'DENIED_LEASE_INVALID';
  return new LatchkeyError(code, denial.message, {
    licenseId: denial.licenseId === '' ? undefined : denial.licenseId,
    contact: denial.contact === '' ? undefined : denial.contact,
  });
}
