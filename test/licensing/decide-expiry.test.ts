/** Starts and enrolments before, at and after the end of a license, by what it says of its end. */
import { describe, expect, it } from 'vitest';
import { type DecisionFacts, decide } from '#src/licensing/decide.ts';
import type { ExpirationStrategy } from '#src/licensing/expiry.ts';
import { NOW_MS, facts, image, license, withLicense } from './decision-rows.ts';

const GRACE_MS = 1000;
const END_MS = NOW_MS;

const enrolment = (heldByThisNode: boolean): DecisionFacts => ({
  ...withLicense({ seats: { ...license.seats, heldByThisNode } }),
  image: undefined,
});
const start = (publishedAtMs: number): DecisionFacts => ({
  ...facts,
  image: { ...image, release: { ...image.release!, publishedAtMs } },
});

/** What can be asked of a license. */
const ASKED = {
  'a new node': enrolment(false),
  'a node of its own again': enrolment(true),
  'a release of before the end': start(END_MS - 1),
  'a release of the end itself': start(END_MS),
  'a release of after the end': start(END_MS + 1),
} as const;
type Asked = keyof typeof ASKED;

/** What is refused once the grace is over; before that nothing is. */
const REFUSED: Readonly<Record<ExpirationStrategy, readonly Asked[]>> = {
  'revoke-access': Object.keys(ASKED) as Asked[],
  'restrict-access': ['a new node', 'a release of after the end'],
  'maintain-access': ['a release of after the end'],
  'allow-access': [],
};

const ROWS = (Object.keys(REFUSED) as ExpirationStrategy[]).flatMap((strategy) =>
  (Object.keys(ASKED) as Asked[]).map(
    (asked) => [strategy, asked, REFUSED[strategy].includes(asked)] as const,
  ),
);

/** The answer at a moment under a license that ends at END_MS. */
function answer(
  asked: Asked,
  nowMs: number,
  terms: { readonly expirationStrategy?: ExpirationStrategy; readonly expiryGraceMs?: number },
): string {
  const question = ASKED[asked];
  const licenses = question.licenses.map((one) => ({ ...one, ...terms, expiresAtMs: END_MS }));
  const decision = decide({ ...question, licenses, nowMs, nodeTimeMs: nowMs });
  return decision.allowed ? 'ALLOWED' : decision.code;
}

describe.each(ROWS)('%s: %s, refused at last: %s', (expirationStrategy, asked, isRefused) => {
  const terms = { expirationStrategy, expiryGraceMs: GRACE_MS };
  const atLast = isRefused ? 'DENIED_LICENSE_EXPIRED' : 'ALLOWED';

  it('is allowed before the end, and to the last moment of the grace', () => {
    for (const nowMs of [END_MS - 1, END_MS, END_MS + GRACE_MS - 1]) {
      expect(answer(asked, nowMs, terms)).toBe('ALLOWED');
    }
  });

  it('is decided by the strategy from then on', () => {
    for (const nowMs of [END_MS + GRACE_MS, END_MS + GRACE_MS + 1, END_MS * 2]) {
      expect(answer(asked, nowMs, terms)).toBe(atLast);
    }
  });

  it('without a grace that is from the end on', () => {
    expect(answer(asked, END_MS - 1, { expirationStrategy })).toBe('ALLOWED');
    expect(answer(asked, END_MS, { expirationStrategy })).toBe(atLast);
  });
});

it('a license that says nothing of its end is over then', () => {
  for (const asked of Object.keys(ASKED) as Asked[]) {
    expect(answer(asked, END_MS, {})).toBe('DENIED_LICENSE_EXPIRED');
  }
});

it.each(['REVOKED', 'SUSPENDED'] as const)('no strategy and no grace helps a license that is %s', (state) => {
  const terms = { state, expiresAtMs: END_MS - 1, expiryGraceMs: GRACE_MS };
  const decision = decide(withLicense({ ...terms, expirationStrategy: 'allow-access' }));
  expect(decision).toMatchObject({ code: `DENIED_LICENSE_${state}` });
});
