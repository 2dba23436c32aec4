/** A denial as the error that travels to the node. */
import { type DeniedCode, LatchkeyError } from '#src/base/errors.ts';
import type { Denied } from '#src/licensing/decide.ts';

/** What to do next, where the message does not say it. */
const HINTS: Partial<Record<DeniedCode, string>> = {
  DENIED_LEASE_CLONED: 'stop one of the two, then have the vendor readmit the node',
  DENIED_REPLAY: 'ask again with a new nonce',
  DENIED_NODE_RETIRED: "run 'latchkey node activate' to enrol it anew",
  DENIED_NODE_RESTORED:
    "run 'latchkey node activate' with the license key, or have the vendor readmit the node",
  DENIED_NODE_CLONED: 'stop one of the two, then have the vendor readmit the node',
};

export function denialError(denied: Denied): LatchkeyError {
  return new LatchkeyError(denied.code, denied.message, {
    hint: HINTS[denied.code],
    licenseId: denied.licenseId ?? undefined,
    contact: denied.contact === '' ? undefined : denied.contact,
  });
}
