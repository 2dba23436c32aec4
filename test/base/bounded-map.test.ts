import { expect, test } from 'vitest';
import { BoundedMap } from '#src/base/bounded-map.ts';

test('a bounded map forgets the oldest entry, and what was set again is new', () => {
  const map = new BoundedMap<string, number>(2);
  map.set('first', 1);
  map.set('second', 2);
  map.set('first', 3);
  map.set('third', 4);
  expect(['first', 'second', 'third'].map((key) => map.get(key))).toEqual([3, undefined, 4]);
  expect(map.size).toBe(2);
  map.delete('first');
  expect(map.size).toBe(1);
});
