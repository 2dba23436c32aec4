/**
 * The files of gated layers come and go: dropped when nobody may or does use them, made again from the
 * encrypted blob when a permitted start needs them. One restore per layer at a time, however many ask.
 */
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { KeyedMutex } from '#src/base/keyed-mutex.ts';
import type { SnapshotDirectories } from './directories.ts';
import type { ExtractionOutcome, SnapshotGate } from './gate.ts';
import { planMounts } from './mounts.ts';
import type { Snapshot, SnapshotLayer } from './snapshot.ts';
import type { StoreRoom } from './store-room.ts';

const PULL_AGAIN = 'remove the image and pull it again';

export class LayerKeeper {
  readonly #directories: SnapshotDirectories;
  readonly #room: StoreRoom;
  readonly #gate: SnapshotGate;
  readonly #overlayOptions: readonly string[];
  readonly #clock: Clock;
  readonly #perLayer = new KeyedMutex<number>();
  readonly #lastUsedMs = new Map<number, number>();

  constructor(
    directories: SnapshotDirectories,
    room: StoreRoom,
    gate: SnapshotGate,
    overlayOptions: readonly string[],
    clock: Clock,
  ) {
    this.#directories = directories;
    this.#room = room;
    this.#gate = gate;
    this.#overlayOptions = overlayOptions;
    this.#clock = clock;
  }

  /**
   * Makes sure that every committed layer of a chain has its files.
   * @param chain nearest parent first
   * @throws LatchkeyError STATE_DAMAGED for a layer that cannot be made again, DENIED_*, STORAGE_FULL
   */
  async ensure(chain: readonly Snapshot[]): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    for (let index = chain.length - 1; index >= 0; index -= 1) {
      const snapshot = chain[index];
      if (snapshot?.store !== 'memory') continue;
      this.#lastUsedMs.set(snapshot.id, nowMs);
      await this.#perLayer.run(snapshot.id, () => this.#restore(snapshot, chain.slice(index + 1)));
    }
  }

  /**
   * As `ensure`, and then asks whether it is allowed still. A license that was refused in between has its layers dropped, also
   * when it is good again by the time of the answer; then they are made once more.
   */
  async ensureAllowed(chain: readonly Snapshot[], authorize: () => Promise<void>): Promise<void> {
    do {
      await this.ensure(chain);
      await authorize();
    } while (chain.some((snapshot) => snapshot.store === 'memory' && !this.isPresent(snapshot)));
  }

  /**
   * Calls a layer whole that has just been unpacked; drops of it wait until that has been done.
   * @throws LatchkeyError STATE_PRECONDITION when it was dropped meanwhile
   */
  finish(snapshot: Snapshot, sizeBytes: number): Promise<void> {
    // An image that is pulled ahead has its idle time until its first start too.
    this.#lastUsedMs.set(snapshot.id, this.#clock.monotonicMs());
    return this.#perLayer.run(snapshot.id, async () => {
      if (this.#directories.exists(snapshot)) return this.#directories.finishLayer(snapshot, sizeBytes);
      throw new LatchkeyError(
        'STATE_PRECONDITION',
        'the layer was dropped while it was unpacked, because its license was refused',
        { hint: 'pull the image again' },
      );
    });
  }

  /** An unpacking is given up, its files still there: the layer may have been too large. */
  async noteGivenUp(snapshot: Snapshot): Promise<void> {
    if (snapshot.store !== 'memory' || snapshot.layer === null) return;
    const { sizeBytes } = await this.#directories.usage(snapshot);
    this.#room.noteGivenUp(snapshot.layer.diffId, sizeBytes);
  }

  /** When a start last asked for the layer, or when it was unpacked, on the clock that never goes back; 0 = not since the agent started. */
  lastUsedMs(snapshot: Snapshot): number {
    return this.#lastUsedMs.get(snapshot.id) ?? 0;
  }

  /** The snapshot is gone for good; its id is never used again. */
  forget(snapshot: Snapshot): void {
    this.#lastUsedMs.delete(snapshot.id);
  }

  isPresent(snapshot: Snapshot): boolean {
    return snapshot.kind === 'committed'
      ? this.#directories.isReady(snapshot)
      : this.#directories.exists(snapshot);
  }

  /**
   * Removes a layer's files; gives false when there are none, or when they could not be made again.
   * @param isRefused then they go in any case: nobody may have them
   */
  async drop(snapshot: Snapshot, isRefused = false): Promise<boolean> {
    if (!isRefused && snapshot.kind === 'committed' && snapshot.layer === null) return false;
    if (!this.isPresent(snapshot)) return false;
    await this.#perLayer.run(snapshot.id, () => this.#directories.remove(snapshot));
    return true;
  }

  async #restore(snapshot: Snapshot, parents: readonly Snapshot[]): Promise<void> {
    if (this.#directories.isReady(snapshot)) return;
    if (snapshot.layer === null) {
      throw new LatchkeyError('STATE_DAMAGED', `snapshot ${snapshot.key} was in memory only and is gone`, {
        hint: 'remove the container and the image made from it, and make them again',
      });
    }
    const lowerDirectories = parents.map((parent) => this.#directories.files(parent));
    await this.#directories.remove(snapshot);
    this.#room.requireForLayer(snapshot.layer.diffId, snapshot.sizeBytes);
    this.#directories.create(snapshot, lowerDirectories[0]);
    const mounts = planMounts({
      kind: 'active',
      upperDirectory: this.#directories.files(snapshot),
      workDirectory: this.#directories.work(snapshot),
      lowerDirectories,
      overlayOptions: this.#overlayOptions,
    });
    const token = `restore-${snapshot.id}`;
    if (snapshot.gate !== null) {
      this.#gate.openExtraction(token, {
        layer: snapshot.layer,
        encryptedIn: [snapshot.gate],
        imageSizeBytes: snapshot.layer.sizeBytes,
        plainTwin: false,
      });
    }
    let failure: LatchkeyError | undefined;
    try {
      await this.#gate.apply(snapshot.layer, mounts);
      await this.#directories.finishLayer(snapshot, snapshot.sizeBytes);
    } catch (error) {
      failure = neverNotFound(error);
    }
    const outcome = snapshot.gate === null ? undefined : this.#gate.closeExtraction(token);
    if (failure === undefined) return;
    // containerd may still be writing there for a moment; without its marker the next restore begins anew.
    await this.#directories.remove(snapshot).catch(() => undefined);
    throw explainRestore(snapshot.layer, outcome, failure);
  }
}

/** containerd words a refused layer in its own way; our reason is the one that helps. */
function explainRestore(
  layer: SnapshotLayer,
  outcome: ExtractionOutcome | undefined,
  failure: LatchkeyError,
): LatchkeyError {
  if (outcome?.state === 'unverified' && outcome.reason !== undefined)
    return withRemedy(outcome.reason, failure);
  // Nobody recognised the layer by its first bytes, although its key was ready.
  if (outcome?.state === 'no-key' && failure.code === 'STORAGE_FAILED') {
    return new LatchkeyError(
      'INPUT_DIGEST_MISMATCH',
      `the encrypted layer ${layer.digest} was changed on this node`,
      {
        hint: PULL_AGAIN,
        cause: failure,
      },
    );
  }
  return failure;
}

/** The layer was authentic when it was unpacked first, so it was changed on this node, and can be had again. */
function withRemedy(reason: LatchkeyError, failure: LatchkeyError): LatchkeyError {
  if (reason.code !== 'CRYPTO_AUTHENTICATION_FAILED') return reason;
  return new LatchkeyError(reason.code, reason.message, { hint: PULL_AGAIN, cause: failure });
}

/**
 * What is missing below a snapshot is damage: CRI answers NOT_FOUND from Prepare by unpacking the image again,
 * and so on without end.
 */
export function neverNotFound(error: unknown): LatchkeyError {
  const known = toLatchkeyError(error);
  if (known.code !== 'STATE_NOT_FOUND') return known;
  return new LatchkeyError('STATE_DAMAGED', known.message, {
    hint: known.hint ?? PULL_AGAIN,
    cause: error,
  });
}
