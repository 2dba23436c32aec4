/** Answers that are kept for repeats of their requests. */

export interface IdempotentAnswerTable {
  /** HMAC of the caller and the Idempotency-Key, which itself is not kept. */
  readonly key_digest: string;
  readonly organization_id: string;
  /** HMAC of the route and the checked input. */
  readonly request_digest: string;
  /** JSON under a key that takes the organization's lookup key and the Idempotency-Key to derive. */
  readonly sealed_answer: Uint8Array;
  readonly expires_at_ms: number;
}
