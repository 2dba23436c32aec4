/** The encrypting side's handle on the hash thread. Started when a layer is large enough to pay for it. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, LatchkeyError } from '#src/base/errors.ts';
import type { LayerDigestRequest, LayerDigestResult } from './layer-digests.ts';
import { LayerRing, type LayerSlot, createRingMemory } from './layer-ring.ts';

export type HashAnswer =
  | { readonly result: LayerDigestResult }
  | {
      readonly error: {
        readonly code: ErrorCode;
        readonly message: string;
        readonly hint?: string | undefined;
      };
    };

export class HashThread {
  readonly #ring: LayerRing;
  readonly #worker: Worker;
  #answer: Promise<HashAnswer> | undefined;
  #crash: Error | undefined;

  constructor() {
    const memory = createRingMemory();
    this.#ring = new LayerRing(memory);
    this.#worker = new Worker(new URL('./hash-worker.ts', import.meta.url), {
      workerData: memory,
      // Else the main thread would open its own stdio for the worker and make a pipe there non-blocking.
      stdout: true,
      stderr: true,
    });
    this.#worker.once('error', (error) => (this.#crash = error as Error));
    this.#worker.unref();
  }

  /** Begins a layer. */
  start(request: LayerDigestRequest): void {
    this.#ring.reset();
    this.#answer = new Promise((resolve, reject) => {
      this.#worker.once('message', resolve);
      this.#worker.once('error', reject);
    });
    // Looked at in finish; a failure before that must not count as unhandled.
    this.#answer.catch(() => undefined);
    this.#worker.postMessage(request);
  }

  /**
   * The next slot to fill.
   * @throws LatchkeyError what made the thread give up
   */
  async acquire(): Promise<LayerSlot> {
    for (;;) {
      const slot = this.#ring.acquire();
      if (slot === 'failed') {
        await this.finish();
      } else if (slot === 'wait') {
        await nextTurn();
        if (this.#crash !== undefined) throw this.#crash;
      } else {
        return slot;
      }
    }
  }

  commit(sizeBytes: number): void {
    this.#ring.commit(sizeBytes);
  }

  /**
   * Ends the layer.
   * @throws LatchkeyError what made the thread give up
   */
  async finish(): Promise<LayerDigestResult> {
    this.#ring.end();
    this.#worker.ref();
    try {
      const answer = await this.#answer;
      if (answer === undefined) throw new TypeError('no layer was started');
      if ('result' in answer) return answer.result;
      const { code, message, hint } = answer.error;
      throw new LatchkeyError(code, message, { hint });
    } finally {
      this.#worker.unref();
    }
  }

  /** Stops the thread, also in the middle of a layer. */
  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}
