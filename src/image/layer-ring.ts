/**
 * A ring of ciphertext chunks between the thread that encrypts and the one that hashes, in shared memory: no message
 * and no copy per chunk. One producer, one consumer; both may block.
 */
import { FILE_CHUNK_BYTES } from '#src/base/limits.ts';

/** Deep enough to ride out a stall of either side, small enough for the memory bound (measured). */
const SLOT_COUNT = 8;

/** Words of the control block; the slots' chunk lengths follow. */
const PRODUCED = 0;
const CONSUMED = 1;
const IS_ENDED = 2;
const LENGTHS = 3;

/** How long a side sleeps before it looks whether the other one still lives. */
const LIVENESS_INTERVAL_MS = 200;

export interface LayerRingMemory {
  readonly control: SharedArrayBuffer;
  readonly chunks: SharedArrayBuffer;
}

/** Memory for one ring; both sides make their view of it. */
export function createRingMemory(): LayerRingMemory {
  return {
    control: new SharedArrayBuffer((LENGTHS + SLOT_COUNT) * Int32Array.BYTES_PER_ELEMENT),
    chunks: new SharedArrayBuffer(SLOT_COUNT * FILE_CHUNK_BYTES),
  };
}

export class LayerRing {
  readonly #control: Int32Array;
  readonly #slots: readonly Uint8Array[];

  constructor(memory: LayerRingMemory) {
    this.#control = new Int32Array(memory.control);
    this.#slots = Array.from(
      { length: SLOT_COUNT },
      (_, index) => new Uint8Array(memory.chunks, index * FILE_CHUNK_BYTES, FILE_CHUNK_BYTES),
    );
  }

  /** Producer: makes the ring ready for the next layer; the consumer must have finished the last one. */
  reset(): void {
    for (const word of [PRODUCED, CONSUMED, IS_ENDED]) Atomics.store(this.#control, word, 0);
  }

  /** Producer: the next free slot; undefined when none was given back for a while, which may mean that nobody will. */
  acquire(): Uint8Array | undefined {
    const consumed = Atomics.load(this.#control, CONSUMED);
    const produced = Atomics.load(this.#control, PRODUCED);
    if (produced - consumed < SLOT_COUNT) return this.#slot(produced);
    Atomics.wait(this.#control, CONSUMED, consumed, LIVENESS_INTERVAL_MS);
    return produced - Atomics.load(this.#control, CONSUMED) < SLOT_COUNT ? this.#slot(produced) : undefined;
  }

  /** Producer: hands over the slot that `acquire` gave. */
  commit(sizeBytes: number): void {
    const produced = Atomics.load(this.#control, PRODUCED);
    this.#control[LENGTHS + (produced % SLOT_COUNT)] = sizeBytes;
    Atomics.store(this.#control, PRODUCED, produced + 1);
    Atomics.notify(this.#control, PRODUCED);
  }

  /** Producer: no more chunks. */
  end(): void {
    Atomics.store(this.#control, IS_ENDED, 1);
    Atomics.notify(this.#control, PRODUCED);
  }

  /** Consumer: blocks for the next chunk; undefined after the last one. */
  next(): Uint8Array | undefined {
    const consumed = Atomics.load(this.#control, CONSUMED);
    for (;;) {
      const isEnded = Atomics.load(this.#control, IS_ENDED) === 1;
      const produced = Atomics.load(this.#control, PRODUCED);
      if (produced > consumed) break;
      if (isEnded) return undefined;
      Atomics.wait(this.#control, PRODUCED, produced, LIVENESS_INTERVAL_MS);
    }
    return this.#slot(consumed).subarray(0, this.#control[LENGTHS + (consumed % SLOT_COUNT)] ?? 0);
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
