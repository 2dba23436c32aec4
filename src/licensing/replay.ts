/**
 * Requests that come a second time. A node whose answer was lost may repeat its request once and gets what it was given,
 * if that would be given to it now; everything else with a nonce that was used is a replay. Pure.
 */

/** The lease that this nonce of the node has got. */
export interface AnsweredRequest {
  readonly licenseId: string;
  /** The license's epoch when the lease was cut. */
  readonly epoch: number;
  readonly imageDigest: string;
  readonly imageKeyId: string;
  readonly expiresAtMs: number;
  /** True when it was given a second time already. */
  readonly isRepeated: boolean;
}

/** What the lease would be cut from now. */
export interface RepeatedRequest {
  readonly license: { readonly licenseId: string; readonly epoch: number };
  readonly image: { readonly imageDigest: string; readonly imageKeyId: string } | undefined;
  readonly nowMs: number;
}

/** True when the very same lease may be given once more. */
export function mayRepeat(answered: AnsweredRequest, { license, image, nowMs }: RepeatedRequest): boolean {
  return (
    !answered.isRepeated &&
    answered.licenseId === license.licenseId &&
    answered.epoch === license.epoch &&
    answered.imageDigest === image?.imageDigest &&
    answered.imageKeyId === image.imageKeyId &&
    nowMs < answered.expiresAtMs
  );
}
