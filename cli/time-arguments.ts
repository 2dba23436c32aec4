/** Times and spans of time as people write them on a command line. */
import { InvalidArgumentError } from 'commander';
import { formatDuration } from '#src/base/duration-text.ts';
import {
  MAX_CONNECTIVITY_GRACE_MS,
  MAX_JOIN_TOKEN_LIFE_MS,
  MAX_LEASE_DURATION_MS,
  MAX_SEATS_PER_LICENSE,
  MAX_OFFLINE_MS,
  MAX_OFFLINE_STARTS,
  MIN_LEASE_DURATION_MS,
  MIN_OFFLINE_MS,
} from '#src/base/limits.ts';

const UNIT_MS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
type Unit = keyof typeof UNIT_MS;

/** Reads `90s`, `15m`, `24h` or `30d` as milliseconds; for commander's argument parsers. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9})(s|m|h|d)$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Give a number and a unit: 90s, 15m, 24h or 30d.');
  return Number(match[1]) * UNIT_MS[match[2] as Unit];
}

/** Reads how long a lease lives, as milliseconds. */
export function parseLeaseDuration(text: string): number {
  const durationMs = parseDuration(text);
  if (durationMs < MIN_LEASE_DURATION_MS || durationMs > MAX_LEASE_DURATION_MS) {
    const [least, most] = [MIN_LEASE_DURATION_MS, MAX_LEASE_DURATION_MS].map(formatDuration);
    throw new InvalidArgumentError(`Give a span from ${least} to ${most}.`);
  }
  return durationMs;
}

/** Reads how much longer leases count without a line, as milliseconds. */
export function parseConnectivityGrace(text: string): number {
  const graceMs = parseDuration(text);
  if (graceMs <= MAX_CONNECTIVITY_GRACE_MS) return graceMs;
  throw new InvalidArgumentError(`Give a span up to ${formatDuration(MAX_CONNECTIVITY_GRACE_MS)}.`);
}

/** Reads how long an offline bundle lives, as milliseconds. */
export function parseOfflineLife(text: string): number {
  const lifeMs = parseDuration(text);
  if (lifeMs < MIN_OFFLINE_MS || lifeMs > MAX_OFFLINE_MS) {
    const [least, most] = [MIN_OFFLINE_MS, MAX_OFFLINE_MS].map(formatDuration);
    throw new InvalidArgumentError(`Give a span from ${least} to ${most}.`);
  }
  return lifeMs;
}

/** Reads how long a join token lives, as milliseconds. */
export function parseJoinTokenLife(text: string): number {
  const lifeMs = parseDuration(text);
  if (lifeMs >= UNIT_MS.s && lifeMs <= MAX_JOIN_TOKEN_LIFE_MS) return lifeMs;
  throw new InvalidArgumentError(`Give a span from 1s to ${formatDuration(MAX_JOIN_TOKEN_LIFE_MS)}.`);
}

/** Reads how long an API token lives, as milliseconds; the key server knows the longest. */
export function parseApiTokenLife(text: string): number {
  const lifeMs = parseDuration(text);
  if (lifeMs >= UNIT_MS.m) return lifeMs;
  throw new InvalidArgumentError('Give a span of at least 1m.');
}

/** Reads a date (`2027-01-31`, midnight UTC) or a time (`2027-01-31T12:00:00Z`) as epoch milliseconds. */
export function parseInstant(text: string): number {
  const complete = /^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00:00Z` : text;
  const zoned = /^\d{4}-\d{2}-\d{2}T[\d:.]+(Z|[+-]\d{2}:\d{2})$/.test(complete);
  const timeMs = zoned ? Date.parse(complete) : Number.NaN;
  if (Number.isNaN(timeMs) || !isCalendarDay(text.slice(0, 10)))
    throw new InvalidArgumentError('Give a date or a time: 2027-01-31 or 2027-01-31T12:00:00Z.');
  if (timeMs < 0) throw new InvalidArgumentError('Give a date or a time from 1970 on.');
  return timeMs;
}

/** False for 2027-02-31, which Date takes for 3 March. */
function isCalendarDay(day: string): boolean {
  return new Date(`${day}T00:00:00Z`).toISOString().startsWith(day);
}

/** Reads a number of seats: of nodes or installations, or uses of a token. */
export function parseSeatCount(text: string): number {
  return parseCount(text, MAX_SEATS_PER_LICENSE);
}

/** Reads a number of starts under an offline bundle. */
export function parseStartCount(text: string): number {
  return parseCount(text, MAX_OFFLINE_STARTS);
}

function parseCount(text: string, most: number): number {
  const count = /^[1-9]\d{0,8}$/.test(text) ? Number(text) : Number.NaN;
  if (count <= most) return count;
  throw new InvalidArgumentError(`Give a whole number from 1 to ${most}.`);
}

/** `2027-01-31 12:00:00Z`, or a dash for no time. */
export function formatInstant(timeMs: number | null): string {
  if (timeMs === null) return '-';
  return new Date(timeMs)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, 'Z');
}
