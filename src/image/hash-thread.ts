/** The encrypting side's handle on the hash thread. Started when a layer is large enough to pay for it. */
import type { Worker } from 'node:worker_threads';
import { startWorker } from '#src/base/installation.ts';
import type { CiphertextDigests } from './ciphertext-hasher.ts';
import { LayerRing, createRingMemory } from './layer-ring.ts';

export interface HashRequest {
  readonly symmetricKey: Uint8Array;
}

export class HashThread {
  readonly #ring: LayerRing;
  readonly #worker: Worker;
  #answer: Promise<CiphertextDigests> | undefined;

  constructor() {
    const memory = createRingMemory();
    this.#ring = new LayerRing(memory);
    this.#worker = startWorker('src/image/hash-worker.ts', {
      workerData: memory,
      // Else the main thread would open its own stdio for the worker and make a pipe there non-blocking.
      stdout: true,
      stderr: true,
    });
    this.#worker.once('error', () => this.#ring.abandon());
    this.#worker.unref();
  }

  /** Begins a layer. */
  start(request: HashRequest): void {
    this.#ring.reset();
    this.#answer = new Promise((resolve, reject) => {
      this.#worker.once('message', resolve);
      this.#worker.once('error', reject);
    });
    // Looked at in finish; a failure before that must not count as unhandled.
    this.#answer.catch(() => undefined);
    // Nothing else keeps the process alive while this side waits for the other.
    this.#worker.ref();
    this.#worker.postMessage(request);
  }

  /**
   * The next chunk to fill.
   * @throws what made the thread end
   */
  async acquire(): Promise<Uint8Array> {
    const chunk = await this.#ring.acquire();
    if (chunk !== undefined) return chunk;
    await this.#answer;
    throw new TypeError('the hash thread ended early');
  }

  /** Hands over the chunk that `acquire` gave. */
  commit(sizeBytes: number): void {
    this.#ring.commit(sizeBytes);
  }

  /**
   * Ends the layer.
   * @throws what made the thread end
   */
  async finish(): Promise<CiphertextDigests> {
    await this.acquire();
    this.#ring.commit(0);
    try {
      if (this.#answer === undefined) throw new TypeError('no layer was started');
      return await this.#answer;
    } finally {
      this.#worker.unref();
    }
  }

  /** Stops the thread, also in the middle of a layer. */
  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}
