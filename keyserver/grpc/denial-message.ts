/** A denial inside an answer, where it is about one of several things and cannot be the call's status. */
import type { LatchkeyError } from '#src/base/errors.ts';
import type { Denial } from '#src/wire/generated/latchkey/node.ts';

export function toDenial(error: LatchkeyError): Denial {
  return {
    code: error.code,
    message: error.message,
    licenseId: error.licenseId ?? '',
    contact: error.contact ?? '',
  };
}
