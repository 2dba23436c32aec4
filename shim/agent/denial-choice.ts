/** Which of several denials a person is told: anybody can make an image unknown, so that says least. */
import type { LatchkeyError } from '#src/base/errors.ts';

/** @param denials in the order in which they came, at least one */
export function mostTelling(denials: readonly LatchkeyError[]): LatchkeyError | undefined {
  return denials.find(({ code }) => code !== 'DENIED_IMAGE_UNKNOWN') ?? denials[0];
}
