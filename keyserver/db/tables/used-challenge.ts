/** Challenges that were answered, until they would be too old anyway. */

export interface UsedChallengeTable {
  /** In hexadecimal. */
  readonly nonce: string;
  readonly expires_at_ms: number;
}
