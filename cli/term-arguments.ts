/** Terms of a license as people write them on a command line: with a word for what has no limit. */
import { InvalidArgumentError } from 'commander';
import { formatDuration } from '#src/base/duration-text.ts';
import {
  MAX_EXPIRY_GRACE_MS,
  MAX_LICENSE_DURATION_MS,
  MAX_OFFLINE_MS,
  MAX_RENEW_AFTER_PERCENT,
  MIN_LICENSE_DURATION_MS,
  MIN_OFFLINE_MS,
  MIN_RENEW_AFTER_PERCENT,
} from '#src/base/limits.ts';
import { UNLIMITED, termInputs } from '#src/wire/admin/license-terms.ts';
import { parseDuration, parseSeatCount } from './time-arguments.ts';

/** Reads a number of seats, or `unlimited`. */
export function parseSeatLimit(text: string): number | typeof UNLIMITED {
  return text === UNLIMITED ? UNLIMITED : parseSeatCount(text);
}

/** Reads how long a license lasts, as milliseconds, or `unlimited`. */
export function parseTermDuration(text: string): number | typeof UNLIMITED {
  return text === UNLIMITED ? UNLIMITED : parseRenewal(text);
}

/** Reads by how much a license is prolonged, as milliseconds. */
export function parseRenewal(text: string): number {
  return spanWithin(text, MIN_LICENSE_DURATION_MS, MAX_LICENSE_DURATION_MS);
}

/** Reads how long a license goes on after its end, as milliseconds. */
export function parseGrace(text: string): number {
  return spanWithin(text, 0, MAX_EXPIRY_GRACE_MS);
}

/** Reads the versions that a license covers. */
export function parseVersionRange(text: string): string {
  if (termInputs.versionConstraint.safeParse(text).success) return text;
  throw new InvalidArgumentError('Give an npm semver range of at most 200 characters: ^1.2, or >=1.0 <3.0.');
}

/** Reads how long offline bundles may live, as milliseconds: 0 for none, or `unlimited`. */
export function parseOfflineMax(text: string): number | typeof UNLIMITED {
  if (text === UNLIMITED) return UNLIMITED;
  const spanMs = parseDuration(text);
  if (spanMs === 0 || (spanMs >= MIN_OFFLINE_MS && spanMs <= MAX_OFFLINE_MS)) return spanMs;
  const [least, most] = [MIN_OFFLINE_MS, MAX_OFFLINE_MS].map(formatDuration);
  throw new InvalidArgumentError(`Give a span from ${least} to ${most}, 0s for no bundles, or unlimited.`);
}

/** Reads after how much of a lease's life it is renewed: `50%`, as percent; the sign may be left out. */
export function parseRenewAfter(text: string): number {
  const percent = Number(/^(\d{1,3})%?$/.exec(text)?.[1] ?? Number.NaN);
  if (percent >= MIN_RENEW_AFTER_PERCENT && percent <= MAX_RENEW_AFTER_PERCENT) return percent;
  throw new InvalidArgumentError(
    `Give a whole percentage from ${MIN_RENEW_AFTER_PERCENT}% to ${MAX_RENEW_AFTER_PERCENT}%.`,
  );
}

function spanWithin(text: string, least: number, most: number): number {
  const spanMs = parseDuration(text);
  if (spanMs >= least && spanMs <= most) return spanMs;
  throw new InvalidArgumentError(`Give a span from ${formatDuration(least)} to ${formatDuration(most)}.`);
}
