/**
 * Refuses what cannot fit into the plaintext store before containerd fails half-way through it with less to say. What
 * only turns out too large while it is unpacked is remembered: the next try gets our words.
 */
import { statfsSync } from 'node:fs';
import { LatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import { askStore } from './mounted-store.ts';
import type { PlaintextStore } from './plaintext-store.ts';

const MEBIBYTE = 1024 * 1024;
/** With less than this left, an unpacking that was given up most likely found no room: a pipe's worth, and a margin. */
const FULL_BELOW_BYTES = 256 * 1024;
/** Layers that turned out too large are few; forgotten ones fail in containerd's words once more. */
const MAX_REMEMBERED = 1000;

interface Room {
  readonly freeBytes: number;
  readonly capacityBytes: number;
}

export class StoreRoom {
  readonly #store: Pick<PlaintextStore, 'directory' | 'capacitySetting'>;
  readonly #notEnough = new Map<Digest, number>();

  constructor(store: Pick<PlaintextStore, 'directory' | 'capacitySetting'>) {
    this.#store = store;
  }

  /**
   * @param sizeBytes the least that is needed
   * @param what needs it, for the message: `a layer`, `the image`
   * @throws LatchkeyError STORAGE_FULL
   */
  require(sizeBytes: number, what: string): void {
    this.#requireIn(this.#measure(), sizeBytes, what);
  }

  /** True when that much is free. */
  has(sizeBytes: number): boolean {
    return this.#measure().freeBytes >= sizeBytes;
  }

  #requireIn({ freeBytes, capacityBytes }: Room, sizeBytes: number, what: string): void {
    if (freeBytes >= sizeBytes) return;
    const setting = this.#store.capacitySetting;
    const tooSmall = sizeBytes > capacityBytes;
    throw new LatchkeyError(
      'STORAGE_FULL',
      `the plaintext store of ${mebibytes(capacityBytes)} MiB has no room for ${what}: at least ${Math.ceil(sizeBytes / MEBIBYTE)} MiB are needed, ${mebibytes(freeBytes)} MiB are free`,
      {
        hint: `raise ${setting} in the configuration of the agent${tooSmall ? '' : ", stop other containers, or run 'latchkey node drop'"}`,
      },
    );
  }

  /** As `require`, for a layer of which an earlier unpacking may have shown how much is not enough. */
  requireForLayer(diffId: Digest, sizeBytes: number): void {
    this.require(this.#layerSizeBytes(diffId, sizeBytes), 'a layer');
  }

  /** As `requireForLayer`, for a layer and what comes above it in its image. @param imageSizeBytes of all of them */
  requireForImage(imageSizeBytes: number, diffId: Digest, sizeBytes: number): void {
    const room = this.#measure();
    this.#requireIn(room, imageSizeBytes, 'the image');
    this.#requireIn(room, this.#layerSizeBytes(diffId, sizeBytes), 'a layer');
  }

  #layerSizeBytes(diffId: Digest, sizeBytes: number): number {
    return Math.max(sizeBytes, this.#notEnough.get(diffId) ?? 0);
  }

  /**
   * An unpacking is given up, its files still there: when they have filled the store, that is remembered.
   * @param usedBytes of the files
   * @returns true when the layer was too large
   */
  noteGivenUp(diffId: Digest, usedBytes: number): boolean {
    const { freeBytes } = this.#measure();
    if (freeBytes >= FULL_BELOW_BYTES) return false;
    const [oldest] = this.#notEnough.keys();
    if (this.#notEnough.size >= MAX_REMEMBERED && oldest !== undefined) this.#notEnough.delete(oldest);
    this.#notEnough.set(diffId, usedBytes + freeBytes + 1);
    return true;
  }

  #measure(): Room {
    const { bsize, blocks, bavail } = askStore(() => statfsSync(this.#store.directory));
    return { freeBytes: bavail * bsize, capacityBytes: blocks * bsize };
  }
}

function mebibytes(bytes: number): number {
  return Math.floor(bytes / MEBIBYTE);
}
