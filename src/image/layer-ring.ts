/**
 * A ring of chunks between the thread that encrypts and the one that hashes, in shared memory: no message and no copy
 * per chunk. Each slot holds a chunk twice, plain and encrypted. One producer, one consumer; both may block.
 */
import { FILE_CHUNK_BYTES } from '#src/base/limits.ts';

/** Deep enough to ride out a stall of either side, small enough for the memory bound (measured). */
const SLOT_COUNT = 4;
const SLOT_BYTES = 2 * FILE_CHUNK_BYTES;

/** Words of the control block; the slots' chunk lengths follow. */
const PRODUCED = 0;
const CONSUMED = 1;
const STATE = 2;
const LENGTHS = 3;

const RUNNING = 0;
const ENDED = 1;
const FAILED = 2;

/** How long a side sleeps before it looks whether the other one still lives. */
const LIVENESS_INTERVAL_MS = 200;

export interface LayerSlot {
  readonly plaintext: Uint8Array;
  readonly ciphertext: Uint8Array;
}

export interface LayerRingMemory {
  readonly control: SharedArrayBuffer;
  readonly chunks: SharedArrayBuffer;
}

/** Memory for one ring; both sides make their view of it. */
export function createRingMemory(): LayerRingMemory {
  return {
    control: new SharedArrayBuffer((LENGTHS + SLOT_COUNT) * Int32Array.BYTES_PER_ELEMENT),
    chunks: new SharedArrayBuffer(SLOT_COUNT * SLOT_BYTES),
  };
}

export class LayerRing {
  readonly #control: Int32Array;
  readonly #slots: readonly LayerSlot[];

  constructor(memory: LayerRingMemory) {
    this.#control = new Int32Array(memory.control);
    this.#slots = Array.from({ length: SLOT_COUNT }, (_, index) => ({
      plaintext: new Uint8Array(memory.chunks, index * SLOT_BYTES, FILE_CHUNK_BYTES),
      ciphertext: new Uint8Array(memory.chunks, index * SLOT_BYTES + FILE_CHUNK_BYTES, FILE_CHUNK_BYTES),
    }));
  }

  /** Producer: makes the ring ready for the next layer; the consumer must have finished the last one. */
  reset(): void {
    for (const word of [PRODUCED, CONSUMED, STATE]) Atomics.store(this.#control, word, 0);
  }

  /** Producer: the next free slot; `wait` means "none yet", `failed` that the consumer has given up. */
  acquire(): LayerSlot | 'wait' | 'failed' {
    if (Atomics.load(this.#control, STATE) === FAILED) return 'failed';
    const consumed = Atomics.load(this.#control, CONSUMED);
    const produced = Atomics.load(this.#control, PRODUCED);
    if (produced - consumed < SLOT_COUNT) return this.#slot(produced);
    Atomics.wait(this.#control, CONSUMED, consumed, LIVENESS_INTERVAL_MS);
    return produced - Atomics.load(this.#control, CONSUMED) < SLOT_COUNT ? this.#slot(produced) : 'wait';
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
    Atomics.compareExchange(this.#control, STATE, RUNNING, ENDED);
    Atomics.notify(this.#control, PRODUCED);
  }

  /** Consumer: blocks for the next chunk; undefined after the last one. */
  next(): LayerSlot | undefined {
    const consumed = Atomics.load(this.#control, CONSUMED);
    for (;;) {
      const isEnded = Atomics.load(this.#control, STATE) !== RUNNING;
      const produced = Atomics.load(this.#control, PRODUCED);
      if (produced > consumed) break;
      if (isEnded) return undefined;
      Atomics.wait(this.#control, PRODUCED, produced, LIVENESS_INTERVAL_MS);
    }
    const sizeBytes = this.#control[LENGTHS + (consumed % SLOT_COUNT)] ?? 0;
    const { plaintext, ciphertext } = this.#slot(consumed);
    return { plaintext: plaintext.subarray(0, sizeBytes), ciphertext: ciphertext.subarray(0, sizeBytes) };
  }

  /** Consumer: gives the slot of `next` back. */
  release(): void {
    Atomics.add(this.#control, CONSUMED, 1);
    Atomics.notify(this.#control, CONSUMED);
  }

  /** Consumer: gives up; the producer sees it at its next slot. */
  fail(): void {
    Atomics.store(this.#control, STATE, FAILED);
    Atomics.notify(this.#control, CONSUMED);
  }

  #slot(count: number): LayerSlot {
    const slot = this.#slots[count % SLOT_COUNT];
    if (slot === undefined) throw new TypeError('no such slot');
    return slot;
  }
}
