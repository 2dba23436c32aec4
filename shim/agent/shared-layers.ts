/**
 * Images that share a layer share its snapshot, which stands under the key of one of them. When that one is refused, its
 * layers must not take the other's containers down: they go on under the key of the other, if it has a lease.
 */
import type { Digest } from '#src/oci/digest.ts';
import { takeOver } from '../snapshotter/authorization.ts';
import type { Journal } from '../snapshotter/journal.ts';
import type { SnapshotGateRecord } from '../snapshotter/snapshot.ts';
import type { ImageGuard } from './image-guard.ts';
import type { LeaseSubject } from './lease.ts';
import type { Standing } from './standing.ts';

export interface SharedLayersParts {
  readonly journal: Journal;
  readonly index: { recordsOfBlob(digest: Digest): Promise<readonly SnapshotGateRecord[]> };
  readonly standings: { ofSubject(subject: LeaseSubject): Standing };
  readonly guard: Pick<ImageGuard, 'require'>;
  /** True while any image has a lease. */
  readonly hasLease: () => boolean;
}

export class SharedLayers {
  readonly #parts: SharedLayersParts;

  constructor(parts: SharedLayersParts) {
    this.#parts = parts;
  }

  /**
   * Gives the layers of images without a lease to others that hold one; asks the key server nothing.
   * @returns true when there was such a layer
   */
  async passOn(): Promise<boolean> {
    const { journal, index, standings, hasLease } = this.#parts;
    if (!hasLease()) return false;
    let hasPassed = false;
    for (const snapshot of journal.all()) {
      const { gate, kind } = snapshot;
      if (kind !== 'committed' || gate === null || standings.ofSubject(gate) === 'licensed') continue;
      const heir = await this.#heir(await index.recordsOfBlob(gate.blob.digest));
      if (heir === undefined) continue;
      takeOver(journal, snapshot, heir);
      hasPassed = true;
    }
    return hasPassed;
  }

  async #heir(records: readonly SnapshotGateRecord[]): Promise<SnapshotGateRecord | undefined> {
    const { standings, guard } = this.#parts;
    for (const record of records) {
      if (standings.ofSubject(record) !== 'licensed') continue;
      // A lease alone does not say that the layer is of that release.
      if (await guard.require(record).then(Boolean, () => false)) return record;
    }
    return undefined;
  }
}
