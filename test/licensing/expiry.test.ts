import { describe, expect, it } from 'vitest';
import {
  EXPIRATION_STRATEGIES,
  type ExpiryQuestion,
  allowedUntilMs,
  expiryGap,
  graceEndsAtMs,
} from '#src/licensing/expiry.ts';

const END_MS = 1000;
const GRACE_MS = 100;
const OVER_MS = END_MS + GRACE_MS;

describe('allowedUntilMs', () => {
  const QUESTIONS: readonly ExpiryQuestion[] = [
    'new-node',
    'any-start',
    { publishedAtMs: END_MS },
    { publishedAtMs: END_MS + 1 },
  ];

  it.each([
    ['revoke-access', [OVER_MS, OVER_MS, OVER_MS, OVER_MS]],
    ['restrict-access', [OVER_MS, null, null, OVER_MS]],
    ['maintain-access', [null, null, null, OVER_MS]],
    ['allow-access', [null, null, null, null]],
  ] as const)('%s', (expirationStrategy, ends) => {
    const terms = { expiresAtMs: END_MS, expiryGraceMs: GRACE_MS, expirationStrategy };
    expect(QUESTIONS.map((question) => allowedUntilMs(terms, question))).toEqual(ends);
  });

  it.each(EXPIRATION_STRATEGIES)('%s without an end', (expirationStrategy) => {
    const terms = { expiresAtMs: null, expiryGraceMs: GRACE_MS, expirationStrategy };
    expect(QUESTIONS.map((question) => allowedUntilMs(terms, question))).toEqual([null, null, null, null]);
  });

  it('is the end itself where nothing else was agreed', () => {
    expect(allowedUntilMs({ expiresAtMs: END_MS }, 'any-start')).toBe(END_MS);
    expect(graceEndsAtMs({ expiresAtMs: END_MS })).toBe(END_MS);
  });
});

describe('expiryGap', () => {
  const terms = { expiresAtMs: END_MS };
  const later = { publishedAtMs: END_MS + 1 };

  it.each([
    ['revoke-access', 'any-start', /^expired on 1970-01-01T00:00:01.000Z$/],
    ['restrict-access', 'new-node', /takes no new nodes$/],
    ['restrict-access', later, /this release came later$/],
    ['maintain-access', later, /this release came later$/],
  ] as const)('%s says what is refused: %j', (expirationStrategy, question, reason) => {
    expect(expiryGap({ ...terms, expirationStrategy }, question)).toMatch(reason);
  });

  it.each([
    ['restrict-access', 'any-start'],
    ['maintain-access', 'new-node'],
    ['allow-access', later],
  ] as const)('%s refuses nothing: %j', (expirationStrategy, question) => {
    expect(expiryGap({ ...terms, expirationStrategy }, question)).toBeNull();
  });
});
