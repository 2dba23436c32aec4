/** Cursors of lists: good for the question that they came from, and for no other. */
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { pageQuerySchema } from '#src/wire/admin/page.ts';
import { newId } from '../../keyserver/domain/ids.ts';
import { type ListName, openPage } from '../../keyserver/domain/page.ts';

const KEY = randomBytes(32);
const LICENSES: ListName = { name: 'licenses', prefix: 'lic' };
const LEASES: ListName = { name: 'leases', prefix: 'lease' };
const FIRST = pageQuerySchema.parse({ limit: 1 });
const [first, second] = [newId('lic', 1), newId('lic', 2)];

const cursorOf = (query = FIRST, list = LICENSES, key = KEY): string =>
  openPage(key, list, query).cut([{ id: first }, { id: second }]).nextAfter ?? '';

function codeOf(query: object, list = LICENSES, key = KEY): string {
  try {
    openPage(key, list, { ...FIRST, ...query });
    return 'OK';
  } catch (error) {
    return (error as LatchkeyError).code;
  }
}

describe('a cursor', () => {
  it('is taken by the question that it came from, whatever the limit', () => {
    const filters = { state: 'ACTIVE', product: undefined };
    const after = cursorOf({ ...FIRST, ...filters });
    expect(codeOf({ ...filters, after })).toBe('OK');
    expect(codeOf({ state: 'ACTIVE', after, limit: 7 })).toBe('OK');
  });

  it.each([
    ['another filter', { state: 'ACTIVE' }, LICENSES, KEY],
    ['another range', { createdFromMs: 1 }, LICENSES, KEY],
    ['another order', { order: 'desc' }, LICENSES, KEY],
    ['another list', {}, LEASES, KEY],
    ['another organization', {}, LICENSES, randomBytes(32)],
  ])('is refused by %s', (_name, query, list, key) => {
    expect(codeOf({ ...query, after: cursorOf() }, list, key)).toBe('USAGE_INVALID');
  });

  it('is refused when a bit of it is another, or when it is anything else', () => {
    const cursor = Buffer.from(cursorOf(), 'base64url');
    const changed = fc.nat(cursor.length * 8 - 1).map((bit) => {
      const bytes = Buffer.from(cursor);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      return bytes.toString('base64url');
    });
    const other = fc.string({ minLength: 1, unit: 'binary' }).filter((text) => text !== cursorOf());
    fc.assert(
      fc.property(
        fc.oneof(changed, other, fc.constantFrom(first, `${cursorOf()}=`, `${cursorOf()} `)),
        (after) => {
          expect(codeOf({ after })).toBe('USAGE_INVALID');
        },
      ),
    );
  });
});

it('a time range is a range of ids', () => {
  fc.assert(
    fc.property(fc.nat(2 ** 31), fc.nat(2 ** 31), (createdAtMs, timeMs) => {
      const id = newId('lic', createdAtMs);
      const { low, high } = boundsOf({ createdFromMs: timeMs });
      expect(id > low && id < high).toBe(createdAtMs >= timeMs);
      const until = boundsOf({ createdUntilMs: timeMs });
      expect(id > until.low && id < until.high).toBe(createdAtMs < timeMs);
    }),
  );
  expect(boundsOf({ createdFromMs: 8.64e15 }).low < newId('lic', 2 ** 48 - 1)).toBe(true);
});

function boundsOf(query: object): { low: string; high: string } {
  const [low, high] = openPage(KEY, LICENSES, { ...FIRST, ...query }).bounds;
  return { low, high };
}
