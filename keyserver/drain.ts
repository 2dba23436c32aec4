/** The time between the signal to stop and the end of listening, in which load balancers learn to go elsewhere. */
import { setTimeout as sleep } from 'node:timers/promises';

export class Drain {
  readonly #durationMs: number;
  #hasBegun = false;

  constructor(durationMs: number) {
    this.#durationMs = durationMs;
  }

  /** From then on the key server says that it is not ready, and serves whoever comes all the same. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** Begins it; resolves at its end. */
  async begin(): Promise<void> {
    this.#hasBegun = true;
    await sleep(this.#durationMs);
  }
}
