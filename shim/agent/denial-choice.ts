/** Which of several denials a person is told: anybody can make an image unknown or alter it, so that says least. */
import type { ErrorCode, LatchkeyError } from '#src/base/errors.ts';

const SAYS_LITTLE: ReadonlySet<ErrorCode> = new Set(['DENIED_IMAGE_UNKNOWN', 'DENIED_IMAGE_ALTERED']);

/** True for what anybody can bring about with a manifest of his own. */
export function saysLittle({ code }: LatchkeyError): boolean {
  return SAYS_LITTLE.has(code);
}

/** @param denials in the order in which they came, at least one */
export function mostTelling(denials: readonly LatchkeyError[]): LatchkeyError | undefined {
  return (
    denials.find((denial) => !saysLittle(denial)) ??
    denials.find(({ code }) => code === 'DENIED_IMAGE_ALTERED') ??
    denials[0]
  );
}
