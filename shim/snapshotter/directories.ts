/**
 * Where a snapshot's files are. `disk` snapshots live in an ordinary directory; `memory` snapshots in the
 * plaintext store, with a marker that is written only when a layer is whole, so that a half-made one is never
 * taken for it.
 *
 * What takes the kernel microseconds is asked of it at once: a thread to ask from costs ten times as much (measured), and on
 * a busy machine the wait for its turn. Whole trees are walked and removed beside other calls.
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { systemErrorCode } from '#src/base/errors.ts';
import { type LayerPacker, isPacked } from './layer-packer.ts';
import { MountedStore } from './mounted-store.ts';
import type { Snapshot, SnapshotStore } from './snapshot.ts';
import { entriesBelow } from './tree-entries.ts';
import { removeTree } from './tree-removal.ts';

/** The plaintext of a layer is readable by containers, but only through a mount: the store itself is 0700. */
const LAYER_MODE = 0o755;
const PRIVATE_MODE = 0o700;
const DISK_BLOCK_BYTES = 512;
/** How long files are counted before others get their turn. */
const COUNTING_MS = 1;
/** Content of the marker of a layer whose files are a mounted image; the others' is empty. */
const PACKED = 'packed';

type Place = Pick<Snapshot, 'id' | 'store'>;

export interface Usage {
  readonly sizeBytes: number;
  readonly inodes: number;
}

export class SnapshotDirectories {
  readonly #roots: Readonly<Record<SnapshotStore, string>>;
  readonly #packer: LayerPacker | undefined;
  readonly #writableDirectory: string | undefined;
  readonly #store: MountedStore;

  /**
   * @param roots directory of each store
   * @param options.packer makes the layers in the plaintext store smaller
   * @param options.writableDirectory where containers of the plaintext store write, if not in the store itself
   */
  constructor(
    roots: Readonly<Record<SnapshotStore, string>>,
    options: {
      readonly packer?: LayerPacker | undefined;
      readonly writableDirectory?: string | undefined;
    } = {},
  ) {
    this.#roots = roots;
    this.#packer = options.packer;
    this.#writableDirectory = options.writableDirectory;
    this.#store = new MountedStore(roots.memory);
  }

  files(place: Place): string {
    return join(this.#base(place), 'fs');
  }

  work(place: Place): string {
    return join(this.#base(place), 'work');
  }

  /**
   * Makes the directories of a snapshot if they are not there; those in memory are gone after a reboot.
   * @param parentFiles directory whose owner the new one takes, as the root of an overlay shows its upper's
   */
  create(place: Place & Pick<Snapshot, 'layer'>, parentFiles: string | undefined): void {
    if (place.store === 'memory') this.#store.require();
    const files = this.files(place);
    const work = this.work(place);
    if (existsSync(files) && existsSync(work)) return;
    if (place.store === 'memory' && place.layer === null) this.#linkWritable(place);
    makeDirectory(this.#base(place), PRIVATE_MODE);
    makeDirectory(files, LAYER_MODE);
    // Whatever the umask says: it is the root directory of containers that run as any user.
    chmodSync(files, LAYER_MODE);
    if (parentFiles !== undefined) {
      const { uid, gid } = statSync(parentFiles);
      chownSync(files, uid, gid);
    }
    // Last, since what is there with it is taken for whole.
    makeDirectory(work, PRIVATE_MODE);
  }

  /**
   * Removes a snapshot's files, also from the other store, where a crash in `moveToDisk` may have left some. The marker
   * goes first: an agent that is killed half-way must not find the rest and take it for a whole layer.
   */
  async remove({ id }: Pick<Snapshot, 'id'>): Promise<void> {
    // Of a store whose key is gone nothing is left.
    if (this.#store.answers()) {
      rmSync(this.#marker({ id, store: 'memory' }), { force: true });
      await removeTree(this.#base({ id, store: 'memory' }));
    }
    await removeTree(this.#base({ id, store: 'disk' }));
    if (this.#writableDirectory !== undefined) await removeTree(join(this.#writableDirectory, String(id)));
    await removeTree(join(this.#roots.disk, unfinishedName(id)));
  }

  /** Says that the files are whole. */
  markReady(place: Place): void {
    writeFileSync(this.#marker(place), '');
  }

  /**
   * As `markReady`, for a layer that nobody stands on yet: it is made smaller first, in the stores that do.
   * @param sizeBytes of its files
   */
  async finishLayer(place: Place, sizeBytes: number): Promise<void> {
    const packed = (await this.#packer?.pack(this.#base(place), sizeBytes)) === true;
    writeFileSync(this.#marker(place), packed ? PACKED : '');
  }

  /** True when the files are whole and there; an image that somebody has unmounted is not. */
  isReady(place: Place): boolean {
    if (place.store === 'memory' && !this.#store.answers()) return false;
    const marker = statSync(this.#marker(place), { throwIfNoEntry: false });
    if (marker === undefined) return false;
    return marker.size === 0 || isPacked(this.#base(place));
  }

  exists(place: Place): boolean {
    return existsSync(this.files(place));
  }

  /** Moves a snapshot's files from memory to disk, for a layer that turned out not to be secret. */
  async moveToDisk(id: number, copy: (from: string, to: string) => Promise<void>): Promise<void> {
    const from = this.#base({ id, store: 'memory' });
    const to = this.#base({ id, store: 'disk' });
    const unfinished = join(this.#roots.disk, unfinishedName(id));
    await rm(unfinished, { recursive: true, force: true });
    await copy(from, unfinished);
    await rename(unfinished, to);
    await rm(from, { recursive: true, force: true });
  }

  /** Bytes on disk and inodes of a snapshot's own files; a file that vanishes meanwhile is not counted. */
  async usage(place: Place): Promise<Usage> {
    let sizeBytes = 0;
    const inodes = new Set<number>();
    let turnEndsAtMs = performance.now() + COUNTING_MS;
    for (const status of entriesBelow(this.files(place))) {
      if (!inodes.has(status.ino)) sizeBytes += status.blocks * DISK_BLOCK_BYTES;
      inodes.add(status.ino);
      if (performance.now() < turnEndsAtMs) continue;
      await nextTurn();
      turnEndsAtMs = performance.now() + COUNTING_MS;
    }
    return { sizeBytes, inodes: inodes.size };
  }

  /**
   * Removes directories that belong to no snapshot: leftovers of a crash between two steps.
   * @param listKnown the snapshots that there are; asked after the directories have been listed, because a
   *   snapshot that is made meanwhile is entered before its directory is there
   */
  async removeOrphans(listKnown: () => ReadonlySet<number>): Promise<number> {
    const { disk, memory } = this.#roots;
    const plaintext = this.#store.answers() ? [memory, this.#writableDirectory ?? memory] : [];
    if (plaintext.length > 0) this.#store.note();
    const roots = [...new Set([disk, ...plaintext])];
    const names = roots.map((root) => readdirSync(root));
    const known = listKnown();
    let removed = 0;
    for (const [index, root] of roots.entries()) {
      for (const name of names[index] ?? []) {
        const id = Number.parseInt(name, 10);
        if (known.has(id) && (name === String(id) || name === unfinishedName(id))) continue;
        await removeTree(join(root, name));
        removed += 1;
      }
    }
    return removed;
  }

  /** overlayfs follows the link, so that nobody else has to know of the other directory. */
  #linkWritable(place: Place): void {
    if (this.#writableDirectory === undefined) return;
    const target = join(this.#writableDirectory, String(place.id));
    makeDirectory(target, PRIVATE_MODE);
    unlessThere(() => {
      symlinkSync(target, this.#base(place));
    });
  }

  #base(place: Place): string {
    return join(this.#roots[place.store], String(place.id));
  }

  #marker(place: Place): string {
    return join(this.#base(place), 'ready');
  }
}

/** Where a move to disk is under way. */
function unfinishedName(id: number): string {
  return `${id}.moving`;
}

function makeDirectory(path: string, mode: number): void {
  unlessThere(() => {
    mkdirSync(path, { mode });
  });
}

function unlessThere(make: () => void): void {
  try {
    make();
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
  }
}
