/** A refusal is for people: each time it has to come, in one line, with all that they need. */
import { expect } from 'vitest';
import { refusalOf } from './gated-site.ts';

export const ROUNDS = 50;

/**
 * Makes a call ROUNDS times; each must fail with one line that holds all parts.
 * @param atOnce how many wait at a time, as a refused stream processor does a third of a second
 */
export async function expectEachTime(
  call: (round: number) => Promise<unknown>,
  parts: () => readonly string[],
  atOnce = 1,
): Promise<void> {
  const bad: string[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < ROUNDS) {
      const refusal = await refusalOf(call(next++));
      const isOneLine = !/\n./.test(refusal.trim());
      if (!isOneLine || !parts().every((part) => refusal.includes(part))) bad.push(refusal);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  expect(bad).toEqual([]);
}
