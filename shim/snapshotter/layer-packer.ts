/**
 * Turns the directory of a whole layer into a compressed, read-only EROFS image that is mounted in the directory's
 * place. The image has no name once it is mounted: so nothing is left when it is unmounted, and a half-made one can
 * never be taken for whole. Mounts outlive the agent.
 */
import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import { mkdir, readdir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';

const run = promisify(execFile);

/** An image that saves less only costs time at each read: its content was compressed before. */
const LEAST_SAVING = 0.1;
const BLOCK_BYTES = 512;
const EROFS_NAME_BYTES = 254;

export interface LayerPacker {
  /**
   * Packs the files of a layer, on which nobody may stand yet.
   * @param base directory of the snapshot, with the files in `fs`
   * @param sizeBytes of the files, as they are in the store
   * @returns false when the files stay as they are: packing saves nothing, or there is no room for both
   */
  pack(base: string, sizeBytes: number): Promise<boolean>;
}

/** @param onFailed told of a layer that stays unpacked because it could not be packed */
export function erofsPacker(onFailed: (error: LatchkeyError) => void): LayerPacker {
  return {
    pack: async (base, sizeBytes) => {
      try {
        return await packLayer(base, sizeBytes);
      } catch (error) {
        onFailed(await packingError(error, join(base, 'fs')));
        return false;
      }
    },
  };
}

/** What could not be done, in words: mkfs.erofs knows no name of 255 bytes, and says that a file is not there. */
async function packingError(error: unknown, files: string): Promise<LatchkeyError> {
  // In Latin-1 a character is a byte.
  const names = await readdir(files, { encoding: 'latin1', recursive: true }).catch(() => []);
  const long = names.find((path) => basename(path).length > EROFS_NAME_BYTES);
  if (long !== undefined) {
    return new LatchkeyError(
      'INPUT_UNSUPPORTED',
      `a layer of the store compressed-memory stays uncompressed, since mkfs.erofs takes no name of more than ${EROFS_NAME_BYTES} bytes: ${Buffer.from(long, 'latin1').toString()}`,
      { hint: 'where it needs too much memory, set plaintext_store = "encrypted-volume"', cause: error },
    );
  }
  const { stderr } = error as { stderr?: string };
  const said = stderr?.trim().split('\n').at(-1) ?? toLatchkeyError(error).message;
  return new LatchkeyError(
    'STORAGE_FAILED',
    `a layer of the store compressed-memory stays uncompressed: ${said}`,
    { hint: 'see whether the store has room, and the machine loop devices', cause: error },
  );
}

async function packLayer(base: string, sizeBytes: number): Promise<boolean> {
  const files = join(base, 'fs');
  const image = join(base, 'image');
  const unpacked = join(base, 'unpacked');
  try {
    await run('mkfs.erofs', ['--quiet', '-zlz4', image, files]);
    if ((await stat(image)).blocks * BLOCK_BYTES > sizeBytes * (1 - LEAST_SAVING)) return false;
    await rename(files, unpacked);
    await mkdir(files);
    try {
      // A loop device that goes away with the mount.
      await run('mount', ['-t', 'erofs', '-o', 'ro,nodev,loop', image, files]);
    } catch (error) {
      await rmdir(files);
      await rename(unpacked, files);
      throw error;
    }
  } finally {
    await rm(image, { force: true });
  }
  await rm(unpacked, { recursive: true });
  return true;
}

/** True when the files of a snapshot are a mounted image: another file system begins there. */
export function isPacked(base: string): boolean {
  try {
    return statSync(join(base, 'fs')).dev !== statSync(base).dev;
  } catch {
    return false;
  }
}

/** Unmounts the image of a snapshot, if it has one; a container that stands on it keeps it until it ends. */
export async function unmountPacked(base: string): Promise<void> {
  while (isPacked(base)) await run('umount', ['--lazy', join(base, 'fs')]);
}

/**
 * Packs and mounts a small directory, to see whether this machine can.
 * @param directory in the store
 * @throws LatchkeyError CONFIG_INVALID
 */
export async function requirePacking(directory: string): Promise<void> {
  const base = join(directory, 'packing-probe');
  const clear = async (): Promise<void> => {
    await unmountPacked(base);
    await rm(base, { recursive: true, force: true });
  };
  try {
    await clear();
    await mkdir(join(base, 'fs'), { recursive: true });
    // The size is made up, so that the image of nothing counts as a saving.
    await packLayer(base, Number.MAX_SAFE_INTEGER);
    await clear();
  } catch (error) {
    throw new LatchkeyError('CONFIG_INVALID', 'layers cannot be kept compressed in memory on this machine', {
      hint: 'install erofs-utils (mkfs.erofs) and use a kernel with erofs and loop devices, or set plaintext_store = "memory"',
      cause: error,
    });
  }
}
