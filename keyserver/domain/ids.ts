/** Ids are `prefix_` and a UUIDv7 (RFC 9562): a person sees what an id is of, an index sees them in order. */
import { randomUUID } from 'node:crypto';

export type IdPrefix =
  | 'org'
  | 'prod'
  | 'ik'
  | 'rel'
  | 'cust'
  | 'pol'
  | 'lic'
  | 'node'
  | 'lease'
  | 'token'
  | 'join'
  | 'bundle'
  | 'meter'
  | 'usage'
  | 'slot'
  | 'webhook'
  | 'attempt';

const MAX_ID_TIME_MS = 2 ** 48 - 1;

/** What is before every id that was made at a moment or later, and after every earlier one. */
export function idsFrom(prefix: IdPrefix, timeMs: number): string {
  const hex = Math.min(timeMs, MAX_ID_TIME_MS).toString(16).padStart(12, '0');
  return `${prefix}_${hex.slice(0, 8)}-${hex.slice(8)}`;
}

/** Behind the time, of 48 bits, and the version, of 4. */
const RANDOM_FROM = 15;

/** Gives a new id; ids of one millisecond are in random order. */
export function newId(prefix: IdPrefix, nowMs: number): string {
  // A version 4 has random bits where a version 7 has them too; Node.js draws them for many at once.
  return `${idsFrom(prefix, nowMs)}-7${randomUUID().slice(RANDOM_FROM)}`;
}
