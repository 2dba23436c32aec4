/**
 * Ties the encrypted blob of a gated layer to its snapshot in containerd, as often as it takes: without the tie the blob
 * could be collected while the layer is needed. containerd may be away, and learns of a committed snapshot only from our
 * answer; one that it never learnt of, because it was killed meanwhile, is garbage that it removes.
 */
import type { LatchkeyError } from '#src/base/errors.ts';
import { toLatchkeyError } from '#src/base/errors.ts';
import { isNotFound } from '../containerd/content.ts';
import type { SnapshotLayer } from '../snapshotter/snapshot.ts';

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 30_000;
/** A minute and a half altogether, in which containerd has entered the snapshot even on a busy machine. */
const UNKNOWN_ATTEMPTS = 12;

export interface BlobKeeperParts {
  /** Rejects while containerd is away, or does not know the snapshot. */
  readonly tie: (namespace: string, chainId: string, layer: SnapshotLayer) => Promise<void>;
  readonly onFailed: (layer: SnapshotLayer, error: LatchkeyError) => void;
}

export class BlobKeeper {
  readonly #parts: BlobKeeperParts;
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(parts: BlobKeeperParts) {
    this.#parts = parts;
  }

  /** Never fails the caller. */
  keep(namespace: string, chainId: string, layer: SnapshotLayer): void {
    this.#after(0, () => void this.#attempt(namespace, chainId, layer, 1));
  }

  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  async #attempt(namespace: string, chainId: string, layer: SnapshotLayer, count: number): Promise<void> {
    try {
      await this.#parts.tie(namespace, chainId, layer);
    } catch (error) {
      const known = toLatchkeyError(error);
      if (isNotFound(known) && count >= UNKNOWN_ATTEMPTS) {
        this.#parts.onFailed(layer, known);
        return;
      }
      const delayMs = Math.min(FIRST_DELAY_MS * 2 ** (count - 1), LONGEST_DELAY_MS);
      this.#after(delayMs, () => void this.#attempt(namespace, chainId, layer, count + 1));
    }
  }

  #after(delayMs: number, task: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      task();
    }, delayMs);
    this.#timers.add(timer);
  }
}
