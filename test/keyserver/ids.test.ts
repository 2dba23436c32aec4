import { describe, expect, it } from 'vitest';
import { newId } from '../../keyserver/domain/ids.ts';

const UUID_V7 = /^lease_([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

describe('an id', () => {
  it('is a UUIDv7 that begins with its time', () => {
    for (const nowMs of [0, 1, Date.UTC(2026, 10, 30), 2 ** 48 - 1]) {
      const [, high = '', low = ''] = UUID_V7.exec(newId('lease', nowMs)) ?? [];
      expect(Number.parseInt(high + low, 16)).toBe(nowMs);
    }
  });

  it('is in the order of time, and never the same', () => {
    const ids = Array.from({ length: 1000 }, (_, index) => newId('lease', 1_700_000_000_000 + index));
    expect([...ids].sort()).toEqual(ids);
    expect(new Set(Array.from({ length: 1000 }, () => newId('lease', 1))).size).toBe(1000);
  });
});
