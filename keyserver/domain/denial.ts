/** A denial as the error that travels to the node. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Denied } from '#src/licensing/decide.ts';

export function denialError(denied: Denied): LatchkeyError {
  return new LatchkeyError(denied.code, denied.message, {
    licenseId: denied.licenseId ?? undefined,
    contact: denied.contact === '' ? undefined : denied.contact,
  });
}
