/**
 * Where a snapshot's files are. `disk` snapshots live in an ordinary directory; `memory` snapshots in the
 * plaintext store, with a marker that is written only when a layer is whole, so that a half-made one is never
 * taken for it.
 */
import { statSync } from 'node:fs';
import {
  access,
  chown,
  lstat,
  mkdir,
  opendir,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode } from '#src/base/errors.ts';
import { type LayerPacker, isPacked, unmountPacked } from './layer-packer.ts';
import { MountedStore } from './mounted-store.ts';
import type { Snapshot, SnapshotStore } from './snapshot.ts';

/** The plaintext of a layer is readable by containers, but only through a mount: the store itself is 0700. */
const LAYER_MODE = 0o755;
const PRIVATE_MODE = 0o700;
const DISK_BLOCK_BYTES = 512;
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
  async create(place: Place & Pick<Snapshot, 'layer'>, parentFiles: string | undefined): Promise<void> {
    if (place.store === 'memory') await this.#store.require();
    if (place.store === 'memory' && place.layer === null) await this.#linkWritable(place);
    await mkdir(this.#base(place), { recursive: true, mode: PRIVATE_MODE });
    const created = await mkdir(this.files(place), { recursive: true, mode: LAYER_MODE });
    await mkdir(this.work(place), { recursive: true, mode: PRIVATE_MODE });
    if (created !== undefined && parentFiles !== undefined) {
      const parent = await stat(parentFiles);
      await chown(this.files(place), parent.uid, parent.gid);
    }
  }

  /**
   * Removes a snapshot's files, also from the other store, where a crash in `moveToDisk` may have left some. The marker
   * goes first: an agent that is killed half-way must not find the rest and take it for a whole layer.
   */
  async remove({ id }: Pick<Snapshot, 'id'>): Promise<void> {
    await rm(this.#marker({ id, store: 'memory' }), { force: true });
    for (const store of ['memory', 'disk'] as const) await removeTree(this.#base({ id, store }));
    if (this.#writableDirectory !== undefined) await removeTree(join(this.#writableDirectory, String(id)));
    await rm(join(this.#roots.disk, unfinishedName(id)), { recursive: true, force: true });
  }

  /** Says that the files are whole. */
  async markReady(place: Place): Promise<void> {
    await writeFile(this.#marker(place), '');
  }

  /**
   * As `markReady`, for a layer that nobody stands on yet: it is made smaller first, in the stores that do.
   * @param sizeBytes of its files
   */
  async finishLayer(place: Place, sizeBytes: number): Promise<void> {
    const packed = (await this.#packer?.pack(this.#base(place), sizeBytes)) === true;
    await writeFile(this.#marker(place), packed ? PACKED : '');
  }

  /** True when the files are whole and there; an image that somebody has unmounted is not. */
  async isReady(place: Place): Promise<boolean> {
    // Asked for every layer below each layer of a pull; a look at memory costs less than a thread to look from.
    const marker = statSync(this.#marker(place), { throwIfNoEntry: false });
    if (marker === undefined) return false;
    return marker.size === 0 || isPacked(this.#base(place));
  }

  exists(place: Place): Promise<boolean> {
    return isThere(this.files(place));
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
    const walk = async (directory: string): Promise<void> => {
      for await (const entry of await opendir(directory)) {
        const path = join(directory, entry.name);
        const status = await lstat(path).catch(() => undefined);
        if (status === undefined) continue;
        if (!inodes.has(status.ino)) sizeBytes += status.blocks * DISK_BLOCK_BYTES;
        inodes.add(status.ino);
        if (status.isDirectory()) await walk(path);
      }
    };
    await walk(this.files(place)).catch(() => undefined);
    return { sizeBytes, inodes: inodes.size };
  }

  /**
   * Removes directories that belong to no snapshot: leftovers of a crash between two steps.
   * @param listKnown the snapshots that there are; asked after the directories have been listed, because a
   *   snapshot that is made meanwhile is entered before its directory is there
   */
  async removeOrphans(listKnown: () => ReadonlySet<number>): Promise<number> {
    const { disk, memory } = this.#roots;
    await this.#store.note();
    const roots = [...new Set([disk, memory, this.#writableDirectory ?? memory])];
    const names = await Promise.all(roots.map((root) => readdir(root)));
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
  async #linkWritable(place: Place): Promise<void> {
    if (this.#writableDirectory === undefined) return;
    const target = join(this.#writableDirectory, String(place.id));
    await mkdir(target, { recursive: true, mode: PRIVATE_MODE });
    await symlink(target, this.#base(place)).catch((error: unknown) => {
      if (systemErrorCode(error) !== 'EEXIST') throw error;
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

/** Removes a snapshot's directory; an image that is mounted in it goes with it. */
async function removeTree(base: string): Promise<void> {
  await unmountPacked(base);
  await rm(base, { recursive: true, force: true });
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
