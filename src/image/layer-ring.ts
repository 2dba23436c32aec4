/**
 * A ring of ciphertext chunks between the thread that encrypts and the one that hashes, in shared memory: no message
 * and no copy per chunk. One producer, one consumer, which blocks.
 */
import { FILE_CHUNK_BYTES } from '#src/base/limits.ts';
import { allocateAlignedShared, chunksOf } from './aligned-memory.ts';

/** Deep enough to ride out a stall of either side, small enough for the memory bound (measured). */
const SLOT_COUNT = 6;

/** Words of the control block; the slots' chunk lengths follow. */
const PRODUCED = 0;
const CONSUMED = 1;
const LENGTHS = 2;

export interface LayerRingMemory {
  readonly control: SharedArrayBuffer;
  readonly chunks: SharedArrayBuffer;
}

/** Memory for one ring; both sides make their view of it. */
export function createRingMemory(): LayerRingMemory {
  return {
    control: new SharedArrayBuffer((LENGTHS + SLOT_COUNT) * Int32Array.BYTES_PER_ELEMENT),
    chunks: allocateAlignedShared(SLOT_COUNT * FILE_CHUNK_BYTES),
  };
}

export class LayerRing {
  readonly #control: Int32Array;
  readonly #slots: readonly Uint8Array[];
  #acquired = 0;
  #isAbandoned = false;

  constructor(memory: LayerRingMemory) {
    this.#control = new Int32Array(memory.control);
    this.#slots = chunksOf(memory.chunks, FILE_CHUNK_BYTES);
  }

  /** Producer: makes the ring ready for the next layer; the consumer must have finished the last one. */
  reset(): void {
    this.#acquired = 0;
    for (const word of [PRODUCED, CONSUMED]) Atomics.store(this.#control, word, 0);
  }

  /**
   * Producer: the next free slot, undefined when the consumer is gone. Several may be acquired ahead. Waits without blocking, because writes and
   * inflate end on the producer's event loop.
   */
  async acquire(): Promise<Uint8Array | undefined> {
    while (!this.#isAbandoned) {
      const consumed = Atomics.load(this.#control, CONSUMED);
      if (this.#acquired - consumed < SLOT_COUNT) {
        this.#acquired += 1;
        return this.#slot(this.#acquired - 1);
      }
      const wait = Atomics.waitAsync(this.#control, CONSUMED, consumed);
      if (wait.async) await wait.value;
    }
    return undefined;
  }

  /** Producer: hands over the slot that `acquire` gave, in the same order; 0 bytes are the end. */
  commit(sizeBytes: number): void {
    const produced = Atomics.load(this.#control, PRODUCED);
    this.#control[LENGTHS + (produced % SLOT_COUNT)] = sizeBytes;
    Atomics.store(this.#control, PRODUCED, produced + 1);
    Atomics.notify(this.#control, PRODUCED);
  }

  /** Producer: no consumer will come any more. */
  abandon(): void {
    this.#isAbandoned = true;
    Atomics.notify(this.#control, CONSUMED);
  }

  /** Consumer: blocks for the next chunk; undefined after the last one. */
  next(): Uint8Array | undefined {
    const consumed = Atomics.load(this.#control, CONSUMED);
    while (Atomics.load(this.#control, PRODUCED) === consumed) {
      Atomics.wait(this.#control, PRODUCED, consumed);
    }
    const sizeBytes = this.#control[LENGTHS + (consumed % SLOT_COUNT)] ?? 0;
    return sizeBytes === 0 ? undefined : this.#slot(consumed).subarray(0, sizeBytes);
  }

  /** Consumer: gives the slot of `next` back. */
  release(): void {
    Atomics.add(this.#control, CONSUMED, 1);
    Atomics.notify(this.#control, CONSUMED);
  }

  #slot(count: number): Uint8Array {
    const slot = this.#slots[count % SLOT_COUNT];
    if (slot === undefined) throw new TypeError('no such slot');
    return slot;
  }
}
