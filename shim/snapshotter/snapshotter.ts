/**
 * The snapshotter: containerd asks it for every root filesystem, so this is where a start is allowed or not.
 * Layers of encrypted images, and everything above them, live in memory; the rest is what containerd's own
 * overlayfs snapshotter does. Prepare only decides; heavy work waits for Mounts, because containerd holds a
 * lock over Prepare that every other start needs.
 */
import type { Clock } from '#src/base/clock.ts';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { Mount } from '#src/wire/generated/containerd/types.ts';
import { admitContainers, foreseeContainers } from './admission.ts';
import { authorizeChain } from './authorization.ts';
import { isGated, parentChain } from './chain.ts';
import type { SnapshotDirectories, Usage } from './directories.ts';
import type { SnapshotGate } from './gate.ts';
import { closedExtractionKey, extractionKey, identifyLayer, wasGivenUp } from './extraction-key.ts';
import type { Journal } from './journal.ts';
import { updatedLabels } from './labels.ts';
import { type LayerKeeper, neverNotFound } from './layer-keeper.ts';
import { planMounts } from './mounts.ts';
import { type Snapshot, type SnapshotGateRecord, extractionChainId, parseKey } from './snapshot.ts';
import type { StoreRoom } from './store-room.ts';

export interface SnapshotterParts {
  readonly journal: Journal;
  readonly directories: SnapshotDirectories;
  readonly keeper: LayerKeeper;
  readonly room: StoreRoom;
  readonly gate: SnapshotGate;
  readonly clock: Clock;
  readonly overlayOptions: readonly string[];
  /** Copies a directory tree with owners, modes, links and attributes. */
  readonly copyTree: (from: string, to: string) => Promise<void>;
}

export interface PrepareRequest {
  readonly key: string;
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
}

export class Snapshotter {
  readonly #parts: SnapshotterParts;

  constructor(parts: SnapshotterParts) {
    this.#parts = parts;
  }

  /** Opens a snapshot for writing: a layer about to be unpacked, or a container's root filesystem. */
  async prepare(request: PrepareRequest): Promise<Mount[]> {
    const chain = this.parentChain(request.parent);
    const chainId = extractionChainId(request.key, request.labels);
    if (chainId !== null) return this.#prepareExtraction(request, chain, chainId);
    await authorizeChain(this.#parts, chain, null, true);
    const snapshot = this.#insert(request, 'active', { store: isGated(chain) ? 'memory' : 'disk' });
    foreseeContainers(this.#parts, snapshot, chain);
    // Under a gated chain a container's directories wait for Mounts, when its parents' files are there.
    await this.#makeOrForget(snapshot, chain, !isGated(chain));
    return this.#mounts(snapshot, chain);
  }

  /** Opens a snapshot for reading; its caller mounts what this gives, so the layers must be there. */
  async view(request: PrepareRequest): Promise<Mount[]> {
    const chain = this.parentChain(request.parent);
    await this.#authorizeAndEnsure(chain, null, true);
    const snapshot = this.#insert(request, 'view', { store: isGated(chain) ? 'memory' : 'disk' });
    await this.#makeOrForget(snapshot, chain);
    return this.#mounts(snapshot, chain);
  }

  /** The mounts of an open snapshot. Every start comes through here, so the decision is made again. */
  async mounts(key: string): Promise<Mount[]> {
    const snapshot = this.#find(key);
    if (snapshot.kind === 'committed') {
      throw new LatchkeyError('STATE_PRECONDITION', `snapshot ${key} is committed`);
    }
    const chain = this.parentChain(snapshot.parent ?? '');
    await this.#authorizeAndEnsure(chain, snapshot.gate, snapshot.layer === null, snapshot);
    // Its client may have given up meanwhile, and removed it.
    this.#find(key);
    this.#createDirectories(snapshot, chain);
    return this.#mounts(snapshot, chain);
  }

  /** Makes an open snapshot the layer of that name. */
  async commit(name: string, key: string, labels: Readonly<Record<string, string>>): Promise<void> {
    const snapshot = this.#find(key);
    if (snapshot.kind !== 'active') {
      throw new LatchkeyError('STATE_PRECONDITION', `snapshot ${key} is not open for writing`);
    }
    if (this.#parts.journal.find(name) !== undefined) {
      throw new LatchkeyError('STATE_CONFLICT', `snapshot ${name} exists already`);
    }
    const gate = closedExtractionKey(this.#parts.gate, snapshot);
    const secret = gate !== null || isGated(this.parentChain(snapshot.parent ?? ''));
    // Without a key it was a plain copy that was unpacked: the encrypted blob is not what it was made from.
    const plainLayer = snapshot.layer?.encrypted === true ? null : snapshot.layer;
    const layer = gate === null || snapshot.layer === null ? plainLayer : { ...snapshot.layer, ...gate.blob };
    // One whose mounts nobody has asked for has no files yet; it becomes an empty layer.
    if (snapshot.layer === null) this.#parts.directories.create(snapshot, undefined);
    const usage = await this.#parts.directories.usage(snapshot);
    if (!secret && snapshot.store === 'memory') {
      await this.#parts.directories.moveToDisk(snapshot.id, this.#parts.copyTree);
    }
    // What a container has written may still be in use, so it stays as it is.
    if (secret && layer === null) this.#parts.directories.markReady(snapshot);
    else if (secret) await this.#parts.keeper.finish(snapshot, usage.sizeBytes);
    const committed: Snapshot = {
      ...snapshot,
      ...usage,
      key: name,
      kind: 'committed',
      labels,
      store: secret ? 'memory' : 'disk',
      updatedAtMs: this.#parts.clock.nowMs(),
      layer,
      gate,
    };
    this.#parts.journal.replace(committed);
    await this.#parts.journal.flush();
    if (secret && committed.layer !== null) {
      const { namespace, name: chainId } = parseKey(name);
      this.#parts.gate.keepBlob(namespace, chainId, committed.layer);
    }
  }

  async remove(key: string): Promise<void> {
    const snapshot = this.#find(key);
    if (this.#parts.journal.children(key).length > 0) {
      throw new LatchkeyError('STATE_PRECONDITION', `snapshot ${key} has children`);
    }
    if (wasGivenUp(this.#parts.gate.closeExtraction(key))) await this.#parts.keeper.noteGivenUp(snapshot);
    this.#parts.keeper.forget(snapshot);
    await this.#forgetInJournal(snapshot);
    await this.#parts.directories.remove(snapshot);
  }

  /** Where the disk has no room even for the journal to say so, the files go first and make it. */
  async #forgetInJournal(snapshot: Snapshot): Promise<void> {
    try {
      this.#parts.journal.remove(snapshot.id);
    } catch (error) {
      if (toLatchkeyError(error).code !== 'STORAGE_FULL') throw error;
      await this.#parts.directories.remove(snapshot);
      this.#parts.journal.remove(snapshot.id);
    }
  }

  stat(key: string): Snapshot {
    return this.#find(key);
  }

  /**
   * Changes labels; what a machine that dies forgets of them, containerd has in its own database.
   * @param paths field mask: `labels` replaces all, `labels.NAME` sets or removes one; empty replaces all
   */
  update(key: string, labels: Readonly<Record<string, string>>, paths: readonly string[]): Snapshot {
    const snapshot = this.#find(key);
    const changed = {
      ...snapshot,
      labels: updatedLabels(snapshot.labels, labels, paths),
      updatedAtMs: this.#parts.clock.nowMs(),
    };
    this.#parts.journal.replace(changed);
    return changed;
  }

  list(): Snapshot[] {
    return this.#parts.journal.all();
  }

  async usage(key: string): Promise<Usage> {
    const snapshot = this.#find(key);
    return snapshot.kind === 'committed' ? snapshot : this.#parts.directories.usage(snapshot);
  }

  async cleanup(): Promise<void> {
    await this.#parts.directories.removeOrphans(() => new Set(this.list().map(({ id }) => id)));
  }

  /** Unpacking writes at once, so what lies below has to be there now; a container asks for Mounts first. */
  async #prepareExtraction(
    request: PrepareRequest,
    chain: readonly Snapshot[],
    chainId: Digest,
  ): Promise<Mount[]> {
    // Neither has to do with the other, and both are asked of others.
    const [identity] = await Promise.all([
      identifyLayer(this.#parts.gate, parseKey(request.key).namespace, chainId),
      this.#authorizeAndEnsure(chain, null, false),
    ]);
    const gate = await extractionKey(this.#parts.gate, identity);
    if (gate !== null && !identity.plainTwin) {
      const { imageSizeBytes, layer } = identity;
      this.#parts.room.requireForImage(imageSizeBytes, layer.diffId, gate.blob.sizeBytes);
    }
    const snapshot = this.#insert(request, 'active', {
      store: gate !== null || isGated(chain) ? 'memory' : 'disk',
      layer: gate === null ? identity.layer : { ...identity.layer, ...gate.blob, encrypted: true },
      gate,
    });
    await this.#makeOrForget(snapshot, chain);
    this.#parts.gate.openExtraction(
      snapshot.key,
      gate === null ? { ...identity, encryptedIn: [] } : identity,
    );
    return this.#mounts(snapshot, chain);
  }

  #find(key: string): Snapshot {
    const snapshot = this.#parts.journal.find(key);
    if (snapshot === undefined) throw new LatchkeyError('STATE_NOT_FOUND', `snapshot ${key} does not exist`);
    return snapshot;
  }

  /** The chain of committed snapshots from a parent down to the base, nearest first. */
  parentChain(parent: string): Snapshot[] {
    return parentChain(this.#parts.journal, parent);
  }

  /** Making layers can take minutes, in which a license can end; so the question is asked before and after. */
  async #authorizeAndEnsure(
    chain: readonly Snapshot[],
    own: SnapshotGateRecord | null,
    isStart: boolean,
    starting?: Snapshot,
  ): Promise<void> {
    const layers = await authorizeChain(this.#parts, chain, own, isStart);
    // Not before: without a lease nobody can tell what was released, and that would be given as the reason.
    const countStart =
      starting !== undefined && isStart && isGated(chain)
        ? await admitContainers(this.#parts, starting, chain)
        : undefined;
    await this.#parts.keeper.ensureAllowed(layers, async () => {
      try {
        await authorizeChain(this.#parts, layers, own, isStart);
      } catch (error) {
        this.#parts.gate.refusedLate();
        throw error;
      }
    });
    await countStart?.();
  }

  #insert(
    request: PrepareRequest,
    kind: 'active' | 'view',
    what: Pick<Snapshot, 'store'> & Partial<Pick<Snapshot, 'layer' | 'gate'>>,
  ): Snapshot {
    if (this.#parts.journal.find(request.key) !== undefined) {
      throw new LatchkeyError('STATE_CONFLICT', `snapshot ${request.key} exists already`);
    }
    const nowMs = this.#parts.clock.nowMs();
    return this.#parts.journal.insert({
      key: request.key,
      parent: request.parent === '' ? null : request.parent,
      kind,
      labels: request.labels,
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
      sizeBytes: 0,
      inodes: 0,
      layer: null,
      gate: null,
      ...what,
    });
  }

  /** A snapshot whose making fails was never there: containerd asks for it again under the same key. */
  async #makeOrForget(snapshot: Snapshot, chain: readonly Snapshot[], hasFiles = true): Promise<void> {
    try {
      if (hasFiles) this.#createDirectories(snapshot, chain);
      await this.#parts.journal.flush();
    } catch (error) {
      this.#parts.journal.remove(snapshot.id);
      throw toLatchkeyError(error);
    }
  }

  #createDirectories(snapshot: Snapshot, chain: readonly Snapshot[]): void {
    const [nearest] = chain;
    const parentFiles = nearest === undefined ? undefined : this.#parts.directories.files(nearest);
    try {
      this.#parts.directories.create(snapshot, parentFiles);
    } catch (error) {
      throw neverNotFound(error);
    }
  }

  #mounts(snapshot: Snapshot, chain: readonly Snapshot[]): Mount[] {
    return planMounts({
      kind: snapshot.kind,
      upperDirectory: this.#parts.directories.files(snapshot),
      workDirectory: this.#parts.directories.work(snapshot),
      lowerDirectories: chain.map((parent) => this.#parts.directories.files(parent)),
      overlayOptions: this.#parts.overlayOptions,
    });
  }
}
