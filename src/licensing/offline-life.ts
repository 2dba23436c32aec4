/** How long an offline bundle lives, by what its license allows. Pure. */
import { formatDuration } from '#src/base/duration-text.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { DEFAULT_OFFLINE_MS } from '#src/base/limits.ts';
import type { LicenseTerms } from './license-terms.ts';

/**
 * Gives the life of a bundle under this license.
 * @param askedMs undefined = nobody has said; then it is the usual one, or what the license allows of it
 * @throws LatchkeyError USAGE_INVALID when more was asked for than the license allows, STATE_PRECONDITION when it allows
 *   no bundles
 */
export function offlineLifeMs(
  { licenseId, offlineMaxMs }: Pick<LicenseTerms, 'offlineMaxMs'> & { readonly licenseId: string },
  askedMs: number | undefined,
): number {
  if (offlineMaxMs === 0) {
    throw new LatchkeyError('STATE_PRECONDITION', `license ${licenseId} allows no offline bundles`, {
      hint: 'allow them with `latchkey license update --offline-max 30d`, or of its policy with `latchkey policy update`',
    });
  }
  const longestMs = offlineMaxMs ?? Infinity;
  if (askedMs === undefined) return Math.min(DEFAULT_OFFLINE_MS, longestMs);
  if (askedMs <= longestMs) return askedMs;
  const longest = formatDuration(longestMs);
  throw new LatchkeyError(
    'USAGE_INVALID',
    `license ${licenseId} allows offline bundles of at most ${longest}, not ${formatDuration(askedMs)}`,
    {
      hint: `give --expires ${longest} or less, or allow more with \`latchkey license update --offline-max\``,
    },
  );
}
