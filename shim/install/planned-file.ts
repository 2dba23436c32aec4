/** Files that an installation changes: what they become, how that looks, and writing them. */
import { isUtf8 } from 'node:buffer';
import { chmod, chown, copyFile, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { constants } from 'node:fs';
import { dirname } from 'node:path';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { makeDirectory } from '#src/base/make-directory.ts';
import { type RecordedFile, sha256Of } from './installation-record.ts';
import { withoutChanges } from './toml-text.ts';
import { unifiedDiff } from './unified-diff.ts';

const READABLE_MODE = 0o644;
const PERMISSION_BITS = 0o777;

export interface PlannedFile {
  readonly path: string;
  readonly kind: RecordedFile['kind'];
  /** Undefined when there is none yet. */
  readonly before: string | undefined;
  readonly after: string;
}

export interface FileChange {
  readonly path: string;
  readonly change: 'created' | 'changed' | 'unchanged';
  /** Unified; empty for an unchanged one. */
  readonly diff: string;
}

export function describeChange({ path, before, after }: PlannedFile): FileChange {
  const change = before === after ? 'unchanged' : before === undefined ? 'created' : 'changed';
  return { path, change, diff: unifiedDiff(path, before, after) };
}

/**
 * The text of a file; undefined when there is none.
 * @throws LatchkeyError CONFIG_INVALID for a directory
 */
export async function readIfThere(path: string): Promise<string | undefined> {
  return (await bytesIfThere(path))?.toString();
}

/**
 * The text of a file that is to be changed and given back byte by byte.
 * @throws LatchkeyError CONFIG_INVALID also for what no text can give back: containerd 1.x takes comments in Latin-1
 */
export async function readForChange(path: string): Promise<string | undefined> {
  const bytes = await bytesIfThere(path);
  if (bytes === undefined || isUtf8(bytes)) return bytes?.toString();
  throw new LatchkeyError('CONFIG_INVALID', `${path} is not text in UTF-8`, {
    hint: "look for letters with accents and save it as UTF-8, for example with 'iconv -f latin1'; nothing was changed",
  });
}

async function bytesIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (code !== 'EISDIR') throw error;
    throw new LatchkeyError('CONFIG_INVALID', `${path} is a directory`, {
      hint: 'name the file; nothing was changed',
      cause: error,
    });
  }
}

/**
 * What the record says of a file once it is written.
 * @param earlier the record of an earlier installation
 */
export function recordOf(
  file: PlannedFile,
  earlier: RecordedFile | undefined,
  backup: string | null,
): RecordedFile {
  const { path, kind, before, after } = file;
  const original = before === undefined ? undefined : kind === 'edited' ? withoutChanges(before) : before;
  const wasOurs =
    earlier !== undefined && (kind !== 'edited' || (earlier.beforeSha256 === null && original === ''));
  const beforeSha256 = wasOurs ? earlier.beforeSha256 : original === undefined ? null : sha256Of(original);
  return { path, kind, beforeSha256, backup: earlier?.backup ?? backup, afterSha256: sha256Of(after) };
}

/**
 * Copies a file to `FILE.before-latchkey`, or under the next free name when that one holds something else.
 * @returns the path of the copy; null when there is nothing to copy
 */
export async function backUp({ path, before }: PlannedFile): Promise<string | null> {
  if (before === undefined) return null;
  for (let number = 0; ; number += 1) {
    const backup = `${path}.before-latchkey${number === 0 ? '' : `.${number}`}`;
    const there = await readIfThere(backup);
    if (there === before) return backup;
    if (there !== undefined) continue;
    await copyFile(path, backup, constants.COPYFILE_EXCL);
    return backup;
  }
}

/**
 * Puts a text in place of a file at once; who could read the file before, and nobody else, can read it after.
 * @throws LatchkeyError STORAGE_FAILED for a file that is mounted by itself: only what is in it could be changed, not at once
 */
export async function replaceFile(path: string, text: string): Promise<void> {
  const target = await realpath(path).catch(() => path);
  const before = await stat(target).catch(() => undefined);
  const temporary = `${target}.latchkey-new`;
  await rm(temporary, { force: true });
  const file = await open(temporary, 'wx', 0o600);
  try {
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await chmod(temporary, (before?.mode ?? READABLE_MODE) & PERMISSION_BITS);
    if (before !== undefined) await chown(temporary, before.uid, before.gid);
    await rename(temporary, target);
  } catch (error) {
    // On a full disk, for example; nobody would look for it later.
    await rm(temporary, { force: true });
    if (systemErrorCode(error) !== 'EBUSY') throw error;
    throw new LatchkeyError('STORAGE_FAILED', `${target} cannot be replaced: it is a mount of its own`, {
      hint: 'unmount it and mount the directory that it is in, then run the same command again',
      cause: error,
    });
  }
}

/** Makes the directory of a file. @returns those that were not there, outermost first */
export async function makeParents(path: string): Promise<string[]> {
  const missing: string[] = [];
  for (let directory = dirname(path); directory !== dirname(directory); directory = dirname(directory)) {
    if ((await stat(directory).catch(() => undefined)) !== undefined) break;
    missing.unshift(directory);
  }
  await makeDirectory(dirname(path));
  return missing;
}
