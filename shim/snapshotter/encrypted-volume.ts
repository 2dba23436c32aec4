/**
 * The plaintext store on a disk, for images that are larger than memory: a volume with a random key that exists only
 * in the kernel (dm-crypt) or in the program that serves it (gocryptfs). Whoever has lost the key, as a machine has
 * after a reboot, has lost the content; it is then made again from the encrypted layers.
 */
import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, rm, rmdir, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { LatchkeyError } from '#src/base/errors.ts';
import { mountMemoryStore } from './memory-store.ts';
import { type MountEntry, mountAt, unmountAll } from './mount-table.ts';
import { overlayCanWrite } from './overlay-probe.ts';
import { CAPACITY_SETTINGS, type PlaintextStore, hasSwap, plaintextStoreState } from './plaintext-store.ts';
import {
  DEVICE_KEY_BYTES,
  type VolumePlace,
  type VolumePlan,
  type VolumeStep,
  deviceMapperPlan,
  gocryptfsPlan,
} from './volume-plan.ts';

const run = promisify(execFile);

const PRIVATE_FILE_MODE = 0o600;
const PROBE_BYTES = 1024 * 1024;
/** Where containers write beside a volume that overlayfs cannot write into: what they copy up is seldom much. */
const WRITABLE_CAPACITY = '10%';
/** In text, because gocryptfs reads a line. */
const PASSWORD_BYTES = 32;

export interface VolumeOptions {
  readonly directory: string;
  /** File that holds the ciphertext. */
  readonly file: string;
  readonly capacityBytes: number;
  /** Whether overlayfs can have its upper directory in a directory. */
  readonly canWrite?: (directory: string) => Promise<boolean>;
  /** The kernel's list of swap devices. */
  readonly swaps?: string;
}

/** As the kernel names it. */
const GOCRYPTFS = 'fuse.gocryptfs';

type Cipher = 'dm-crypt' | 'gocryptfs';

export function encryptedVolume(options: VolumeOptions): PlaintextStore {
  const { directory } = options;
  const place = volumePlace(options);
  const writable = writableDirectoryOf(directory);
  const canWrite = options.canWrite ?? overlayCanWrite;
  return {
    kind: 'encrypted-volume',
    directory,
    capacitySetting: CAPACITY_SETTINGS['encrypted-volume'],
    packer: undefined,
    open: async () => {
      if (!(await isOpen(place, options.swaps))) await makeVolume(place, options);
      if (await canWrite(directory)) return { writableDirectory: undefined };
      await mountMemoryStore(writable, WRITABLE_CAPACITY, options.swaps);
      return { writableDirectory: writable };
    },
    close: async () => {
      await closeVolume(place);
      await unmountAll(writable);
    },
    state: () => plaintextStoreState(directory, options.swaps),
  };
}

/** Takes down what a run with an encrypted volume has left, where now a store of another kind is. */
export async function removeVolume(options: Pick<VolumeOptions, 'directory' | 'file'>): Promise<void> {
  const place = volumePlace(options);
  const mount = await mountAt(place.directory);
  if (mount !== undefined && isVolume(place, mount)) await unmountAll(place.directory);
  await removeCiphertext(place);
  const writable = writableDirectoryOf(options.directory);
  await unmountAll(writable);
  for (const directory of [place.cipherDirectory, writable]) await rmdir(directory).catch(() => undefined);
}

function writableDirectoryOf(directory: string): string {
  return `${directory}-written`;
}

function volumePlace({ directory, file }: Pick<VolumeOptions, 'directory' | 'file'>): VolumePlace {
  return {
    file,
    directory,
    cipherDirectory: `${directory}-cipher`,
    // One agent must not take another's for its own.
    deviceName: `latchkey-${createHash('sha256').update(directory).digest('hex').slice(0, 16)}`,
  };
}

/** True for a volume whose key is still there, that is, which answers, and is still kept out of swap. */
async function isOpen(place: VolumePlace, swaps: string | undefined): Promise<boolean> {
  const mount = await mountAt(place.directory);
  if (mount === undefined || !isVolume(place, mount)) return false;
  if (mount.fileSystem === GOCRYPTFS && (await hasSwap(swaps))) return false;
  return readdir(place.directory).then(
    () => true,
    () => false,
  );
}

function isVolume(place: VolumePlace, { source, fileSystem }: MountEntry): boolean {
  return fileSystem === GOCRYPTFS || source === `/dev/mapper/${place.deviceName}`;
}

async function makeVolume(place: VolumePlace, { capacityBytes, swaps }: VolumeOptions): Promise<void> {
  await closeVolume(place);
  const cipher = await requireCipher(place, swaps);
  const isDevice = cipher === 'dm-crypt';
  const plan = isDevice ? deviceMapperPlan(place) : gocryptfsPlan(place);
  const key = isDevice
    ? randomBytes(DEVICE_KEY_BYTES)
    : Buffer.from(randomBytes(PASSWORD_BYTES).toString('hex'));
  try {
    await makeFile(place.file, capacityBytes);
    for (const directory of [place.directory, place.cipherDirectory])
      await mkdir(directory, { recursive: true, mode: 0o700 });
    await runPlan(plan, key);
  } catch (error) {
    await closeVolume(place);
    throw error;
  } finally {
    key.fill(0);
  }
}

/** Blocks are taken at once: a disk that is full later would break the volume in the middle of a container's write. */
async function makeFile(file: string, capacityBytes: number): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const { bsize, bavail } = await statfs(dirname(file));
  if (bavail * bsize < capacityBytes) {
    throw new LatchkeyError('STORAGE_FULL', `the disk has no room for ${file} of ${capacityBytes} bytes`, {
      hint: 'lower volume_capacity, or set volume_path to a file on a larger disk',
    });
  }
  await (await open(file, 'wx', PRIVATE_FILE_MODE)).close();
  await run('fallocate', ['--length', String(capacityBytes), file]).catch((error: unknown) => {
    throw new LatchkeyError('STORAGE_FAILED', `the volume ${file} cannot be made`, {
      hint: 'set volume_path to a file on ext4, xfs or btrfs',
      cause: error,
    });
  });
}

async function runPlan({ open: steps }: VolumePlan, key: Buffer): Promise<void> {
  for (const step of steps) {
    try {
      await runStep(step, step.takesKey === true ? key : undefined);
    } catch (error) {
      throw new LatchkeyError(
        'STORAGE_FAILED',
        `the encrypted volume could not be made: ${step.program} failed`,
        {
          hint: 'see the log of the agent, or set plaintext_store = "memory"',
          cause: error,
        },
      );
    }
  }
}

/** On standard input itself: a program that opens /dev/stdin anew cannot, because Node gives it a socket. */
async function runStep({ program, args, staysBehind }: VolumeStep, input: Buffer | undefined): Promise<void> {
  const child = spawn(program, args, { stdio: ['pipe', 'ignore', staysBehind === true ? 'ignore' : 'pipe'] });
  let messages = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (messages += text));
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(input);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  if (status !== 0)
    throw new Error(`${program} ended with status ${status ?? 'of a signal'}: ${messages.trim()}`);
}

async function closeVolume(place: VolumePlace): Promise<void> {
  await unmountAll(place.directory);
  await removeCiphertext(place);
}

/** The key is gone with the mapping or the program; the file goes in any case. */
async function removeCiphertext(place: VolumePlace): Promise<void> {
  await unmountAll(place.cipherDirectory);
  if (existsSync(`/dev/mapper/${place.deviceName}`)) {
    for (const step of deviceMapperPlan(place).close) await runStep(step, undefined).catch(() => undefined);
  }
  await rm(place.file, { force: true });
}

/**
 * dm-crypt where it works, tried on a small file; else gocryptfs.
 * @throws LatchkeyError CONFIG_INVALID
 */
async function requireCipher(place: VolumePlace, swaps: string | undefined): Promise<Cipher> {
  if (await canMapDevices(place)) return 'dm-crypt';
  const hasProgram = await run('gocryptfs', ['-version']).then(Boolean, () => false);
  if (!hasProgram || !existsSync('/dev/fuse')) {
    throw new LatchkeyError('CONFIG_INVALID', 'an encrypted volume cannot be made on this machine', {
      hint: 'install cryptsetup and use a kernel with dm-crypt, or install gocryptfs and fuse3, or set plaintext_store = "memory"',
    });
  }
  if (await hasSwap(swaps)) {
    throw new LatchkeyError('CONFIG_INVALID', 'the key of a gocryptfs volume cannot be kept out of swap', {
      hint: 'turn swap off, or use a kernel with dm-crypt',
    });
  }
  return 'gocryptfs';
}

async function canMapDevices(place: VolumePlace): Promise<boolean> {
  const probe: VolumePlace = {
    ...place,
    file: `${place.file}.probe`,
    deviceName: `${place.deviceName}-probe`,
  };
  const plan = deviceMapperPlan(probe);
  const [openDevice] = plan.open;
  if (openDevice === undefined) return false;
  try {
    await rm(probe.file, { force: true });
    await makeFile(probe.file, PROBE_BYTES);
    await runStep(openDevice, randomBytes(DEVICE_KEY_BYTES));
    for (const step of plan.close) await runStep(step, undefined);
    return true;
  } catch {
    return false;
  } finally {
    await rm(probe.file, { force: true });
  }
}
