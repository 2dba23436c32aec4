/** When the term of a license ends, and what is left of the license then. Pure. */

/**
 * What an ended license still allows. In all of them its nodes are known and its state is EXPIRED.
 *
 * | | new nodes | releases of before its end | later releases |
 * |---|---|---|---|
 * | revoke-access | no | no | no |
 * | restrict-access | no | yes | no |
 * | maintain-access | yes | yes | no |
 * | allow-access | yes | yes | yes |
 */
export const EXPIRATION_STRATEGIES = [
  'revoke-access',
  'restrict-access',
  'maintain-access',
  'allow-access',
] as const;
export type ExpirationStrategy = (typeof EXPIRATION_STRATEGIES)[number];

/** What a term counts from: the making of the license, its first node, or the first start under it. */
export const EXPIRATION_BASES = ['creation', 'activation', 'lease'] as const;
export type ExpirationBasis = (typeof EXPIRATION_BASES)[number];

export interface ExpiryTerms {
  /** Null = open end, or a term that has not begun. */
  readonly expiresAtMs: number | null;
  /** How long after its end everything goes on as before; undefined = not at all. */
  readonly expiryGraceMs?: number | undefined;
  /** Undefined = revoke-access. */
  readonly expirationStrategy?: ExpirationStrategy | undefined;
}

/** What is asked of a license: to take a node, to start anything at all, or a release of some day. */
export type ExpiryQuestion = 'new-node' | 'any-start' | { readonly publishedAtMs: number };

/** When grace ends too and the license is over; null = never. */
export function graceEndsAtMs({ expiresAtMs, expiryGraceMs = 0 }: ExpiryTerms): number | null {
  return expiresAtMs === null ? null : expiresAtMs + expiryGraceMs;
}

/** Until when a license allows something, as far as its term goes; null = for ever. */
export function allowedUntilMs(terms: ExpiryTerms, question: ExpiryQuestion): number | null {
  const { expiresAtMs, expirationStrategy = 'revoke-access' } = terms;
  const endsAtMs = graceEndsAtMs(terms);
  if (expiresAtMs === null || endsAtMs === null) return null;
  switch (expirationStrategy) {
    case 'revoke-access':
      return endsAtMs;
    case 'restrict-access':
      return question === 'new-node' || isLater(question, expiresAtMs) ? endsAtMs : null;
    case 'maintain-access':
      return isLater(question, expiresAtMs) ? endsAtMs : null;
    case 'allow-access':
      return null;
  }
}

/**
 * Why a license whose term is over, grace included, refuses something; null = it does not. Continues a sentence that begins
 * with the license.
 */
export function expiryGap(terms: ExpiryTerms, question: ExpiryQuestion): string | null {
  if (terms.expiresAtMs === null || allowedUntilMs(terms, question) === null) return null;
  const reason = `expired on ${new Date(terms.expiresAtMs).toISOString()}`;
  if (allowedUntilMs(terms, { publishedAtMs: 0 }) !== null) return reason;
  return question === 'new-node' ? `${reason} and takes no new nodes` : `${reason}: this release came later`;
}

function isLater(question: ExpiryQuestion, expiresAtMs: number): boolean {
  return typeof question === 'object' && question.publishedAtMs > expiresAtMs;
}
