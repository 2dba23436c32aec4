/** The license decision against a model of it that is written differently. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type DecisionFacts, decide } from '#src/licensing/decide.ts';
import { anyFacts } from './decision-facts.ts';
import { modelDecision } from './decision-model.ts';
import { ROWS } from './decision-rows.ts';

const RUNS = process.env['SLOW'] === '1' ? 50_000 : 4000;

function codeOf(facts: DecisionFacts): string {
  const decision = decide(facts);
  return decision.allowed ? 'ALLOWED' : decision.code;
}

it('agrees with the model on any facts', () => {
  fc.assert(
    fc.property(anyFacts, (facts) => {
      expect(codeOf(facts)).toBe(modelDecision(facts));
    }),
    { numRuns: RUNS },
  );
});

it('is asked about facts that lead to every reason', () => {
  const seen = new Set(fc.sample(anyFacts, { numRuns: RUNS, seed: 1 }).map(modelDecision));
  expect([...seen].sort()).toEqual(
    ['ALLOWED', 'DENIED_JOIN_TOKEN_EXPIRED', ...ROWS.map(({ code }) => code)].sort(),
  );
});
