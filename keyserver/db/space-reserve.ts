/**
 * Space on the disk of a SQLite database, kept by a file of that size: what takes rights away has to be written, and be in
 * the audit log, on a full disk too. It is given back to the disk step by step, for such writes alone, and filled again
 * once there is room; until then everything else is refused.
 */
import { randomBytes } from 'node:crypto';
import { statSync, truncateSync } from 'node:fs';
import { open, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { DISK_LOW_BYTES, RESERVE_BYTES, RESERVE_STEP_BYTES } from '../limits.ts';

/**
 * `LOW`: it is time to make room. `FULL`: a part of the reserve is gone, and only what takes rights away is written.
 */
export type DiskState = 'OK' | 'LOW' | 'FULL';

const OWNER_ONLY = 0o600;

export class SpaceReserve {
  readonly #directory: string;
  readonly #path: string;
  #sizeBytes: number;
  #isInForce = false;
  #filling: Promise<boolean> | null = null;

  private constructor(directory: string, path: string, sizeBytes: number) {
    this.#directory = directory;
    this.#path = path;
    this.#sizeBytes = sizeBytes;
  }

  /**
   * Finds what is there of the reserve of a directory. On a full disk the start itself gets a step or two of it, for it
   * writes as well.
   */
  static async open(directory: string): Promise<SpaceReserve> {
    const path = join(directory, 'latchkey.reserve');
    const sizeBytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    const reserve = new SpaceReserve(directory, path, Math.min(sizeBytes, RESERVE_BYTES));
    while ((await reserve.freeBytes()) < 2 * RESERVE_STEP_BYTES && reserve.giveBack());
    return reserve;
  }

  /** From here on ordinary writes are refused while it is not whole; a start writes what it needs. */
  async putInForce(): Promise<void> {
    await this.fill();
    this.#isInForce = true;
  }

  /** True while ordinary writes would take what is kept. */
  get isClosed(): boolean {
    return this.#isInForce && this.#sizeBytes < RESERVE_BYTES;
  }

  /**
   * Gives a step of it back to the disk.
   * @returns false when nothing is left
   */
  giveBack(): boolean {
    if (this.#sizeBytes === 0) return false;
    const keptBytes = Math.max(0, this.#sizeBytes - RESERVE_STEP_BYTES);
    try {
      truncateSync(this.#path, keptBytes);
      this.#sizeBytes = keptBytes;
      return true;
    } catch {
      // The failure to tell is the full disk; a file that is gone is made again once there is room.
      this.#sizeBytes = 0;
      return false;
    }
  }

  /**
   * Fills it up when there is room.
   * @returns true when it is whole
   */
  fill(): Promise<boolean> {
    this.#filling ??= this.#fill().finally(() => {
      this.#filling = null;
    });
    return this.#filling;
  }

  /** Of the disk, for this process; the reserve is not among them. */
  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#directory);
    return bavail * bsize;
  }

  async diskState(): Promise<DiskState> {
    if (this.isClosed) return 'FULL';
    return (await this.freeBytes()) < DISK_LOW_BYTES ? 'LOW' : 'OK';
  }

  /** The error for what has to wait. */
  refusal(): LatchkeyError {
    return new LatchkeyError(
      'STORAGE_FULL',
      `the disk of ${this.#directory} is full: what is left is kept for revocations and the audit log`,
      { hint: 'free some space; no restart is needed, and what was acknowledged before is safe' },
    );
  }

  async #fill(): Promise<boolean> {
    if (this.#sizeBytes === RESERVE_BYTES) return true;
    // One step more, or the next write would meet a full disk again.
    if ((await this.freeBytes()) < RESERVE_BYTES - this.#sizeBytes + RESERVE_STEP_BYTES) return false;
    const file = await open(this.#path, 'a', OWNER_ONLY);
    try {
      // Zeros would take no space where the file system leaves them out.
      const step = randomBytes(RESERVE_STEP_BYTES);
      await file.truncate(this.#sizeBytes);
      while (this.#sizeBytes < RESERVE_BYTES) {
        await file.write(step, 0, Math.min(step.length, RESERVE_BYTES - this.#sizeBytes));
        this.#sizeBytes = (await file.stat()).size;
      }
      return true;
    } catch (error) {
      // Somebody else was faster.
      if (systemErrorCode(error) !== 'ENOSPC') throw error;
      return false;
    } finally {
      await file.close();
    }
  }
}
