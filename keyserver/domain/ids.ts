/** Ids are `prefix_` and a UUIDv7 (RFC 9562): a person sees what an id is of, an index sees them in order. */
import { randomBytes } from 'node:crypto';

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

/** Gives a new id; ids of one millisecond are in random order. */
export function newId(prefix: IdPrefix, nowMs: number): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(nowMs, 0, 6);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x70, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString('hex');
  const groups = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)];
  return `${prefix}_${groups.join('-')}`;
}
