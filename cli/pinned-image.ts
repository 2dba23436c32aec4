/** Images that are vouched for without the key server having looked at them. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { OpenedLocation } from './image-location.ts';

/**
 * Refuses a tag of a registry. Anybody can make layers for a public key, and whoever can write to the registry can move
 * a tag to them; a digest says which image is meant.
 * @throws LatchkeyError USAGE_INVALID
 */
export function requirePinned({ location }: OpenedLocation, text: string): void {
  if (location.kind !== 'registry' || location.reference.digest !== undefined) return;
  throw new LatchkeyError(
    'USAGE_INVALID',
    `${text} is whatever the registry says, and all of it would be vouched for`,
    { hint: 'name it by the digest that the tool which made it has printed: HOST/NAME:TAG@sha256:...' },
  );
}
