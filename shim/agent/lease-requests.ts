/**
 * Asks for leases so that a lost answer costs nothing: the next start of the same image repeats the request, and the key
 * server gives the lease that it has given already, if it still would.
 */
import { randomBytes } from 'node:crypto';
import { BoundedMap } from '#src/base/bounded-map.ts';
import { isDeniedCode, toLatchkeyError } from '#src/base/errors.ts';
import type { AcquireLeaseResponse } from '#src/wire/generated/latchkey/node.ts';
import type { KeyServer } from './key-server.ts';
import { isAway } from './lease-denial.ts';
import { type LeaseSubject, subjectKey } from './lease.ts';

const NONCE_BYTES = 16;
/** A forgotten one costs a second lease, which only shows in the list of leases. */
const MAX_UNANSWERED = 1000;

export class LeaseRequests {
  readonly #nowMs: () => number;
  /** Nonces whose request the key server may have answered. */
  readonly #unanswered = new BoundedMap<string, Buffer>(MAX_UNANSWERED);

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** @throws LatchkeyError DENIED_*, NET_* */
  async ask(keyServer: KeyServer, subject: LeaseSubject): Promise<AcquireLeaseResponse> {
    const key = subjectKey(subject);
    const kept = this.#unanswered.get(key);
    const nonce = kept ?? randomBytes(NONCE_BYTES);
    const { imageDigest, imageKeyId } = subject;
    try {
      const answer = await keyServer.acquireLease({
        ...{ imageDigest, imageKeyId, nonce },
        nodeTimeMs: this.#nowMs(),
      });
      this.#unanswered.delete(key);
      return answer;
    } catch (error) {
      const known = toLatchkeyError(error);
      if (isAway(known)) this.#unanswered.set(key, nonce);
      else this.#unanswered.delete(key);
      // What is said against a repeat need not hold for a new request: the lease may be over, or of another license.
      if (kept !== undefined && isDeniedCode(known.code)) return this.ask(keyServer, subject);
      throw known;
    }
  }
}
