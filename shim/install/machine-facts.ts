/** The facts of the machine itself for the doctor. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { AgentConfig } from '../agent/agent-config.ts';
import { mountAt } from '../snapshotter/mount-table.ts';
import { mayHaveSwap, plaintextStoreState } from '../snapshotter/plaintext-store.ts';
import { defaultRuntime } from './containerd-effective.ts';
import type { KeyFile, MachineFacts, ProgramFile } from './doctor-machine.ts';
import { type StoreFacts, missingPrograms } from './doctor-store.ts';
import { mountPoints, optionsOf } from './mounts.ts';
import { readIfThere } from './planned-file.ts';
import { type TomlTable, valueAt } from './toml-change.ts';

const run = promisify(execFile);
const EXECUTABLE_BITS = 0o111;
const PERMISSION_BITS = 0o777;
/** Enough for the part of an ELF header that names the machine. */
const HEAD_BYTES = 64;
/** containerd's shims that start runc or a program like it; others bring their own. */
const RUNC_SHIM = /^io\.containerd\.(?:runc\.v\d|runtime\.v1\.linux)$/;
const RUNC_TIMEOUT_MS = 10_000;
/** In the agent's search path under systemd, but not in every user's. */
const SYSTEM_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

export async function machineFacts(
  { mode, paths }: AgentConfig,
  { rootKey, effective }: { readonly rootKey: string | undefined; readonly effective: TomlTable },
): Promise<MachineFacts> {
  const mounts = mountPoints((await readIfThere('/proc/self/mounts')) ?? '');
  const isMounted = mounts.has(paths.memoryDirectory);
  return {
    hasOverlay: /\boverlay$/m.test((await readIfThere('/proc/filesystems')) ?? ''),
    isSwapOn: await mayHaveSwap(),
    store: isMounted ? await plaintextStoreState(paths.memoryDirectory).catch(() => undefined) : undefined,
    processor: {
      purpose: mode === 'hook' ? 'start hook' : 'stream processor',
      ...(await programFile(mode === 'hook' ? paths.hookProgram : paths.processorProgram, mounts)),
    },
    architecture: process.arch,
    runc: mode === 'hook' ? undefined : await runcFacts(effective),
    nodeKey: await keyFile(join(paths.identityDirectory, 'node-key.pem')),
    rootKey: rootKey === undefined ? undefined : await keyFile(rootKey),
    uid: 0,
  };
}

/** @param searchPath as in `PATH` */
export async function storeFacts(
  { kind, directory }: Pick<AgentConfig['store'], 'kind' | 'directory'>,
  searchPath: string,
): Promise<StoreFacts> {
  const directories = [...searchPath.split(':'), ...SYSTEM_DIRECTORIES].filter((path) => path !== '');
  const isThere = (name: string) => directories.some((path) => existsSync(join(path, name)));
  return {
    kind,
    mount: await mountState(directory),
    missingPrograms: missingPrograms(kind, isThere),
  };
}

/** A file system whose program has died is still mounted. */
async function mountState(directory: string): Promise<StoreFacts['mount']> {
  if ((await mountAt(directory)) === undefined) return 'missing';
  return readdir(directory).then(
    () => 'answers',
    () => 'dead',
  );
}

async function programFile(
  path: string,
  mounts: ReadonlyMap<string, readonly string[]>,
): Promise<Omit<ProgramFile, 'purpose'>> {
  const status = await stat(path).catch(() => undefined);
  return {
    path,
    head: status === undefined ? undefined : await firstBytes(path),
    isExecutable: ((status?.mode ?? 0) & EXECUTABLE_BITS) !== 0,
    isOnNoexecMount: optionsOf(mounts, path).includes('noexec'),
  };
}

async function firstBytes(path: string): Promise<Uint8Array> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

async function keyFile(path: string): Promise<KeyFile | undefined> {
  const status = await stat(path).catch(() => undefined);
  return status === undefined ? undefined : { path, mode: status.mode & PERMISSION_BITS, uid: status.uid };
}

/**
 * The runc that pods without a class get: the one that containerd is told, or the first in its path; undefined when they
 * get another runtime altogether, such as Kata's.
 */
async function runcFacts(effective: TomlTable): Promise<MachineFacts['runc']> {
  const { table } = defaultRuntime(effective);
  const type = table['runtime_type'];
  if (typeof type === 'string' && type !== '' && !RUNC_SHIM.test(type)) return undefined;
  const named = valueAt(table, ['options', 'BinaryName']);
  const program = typeof named === 'string' && named !== '' ? named : 'runc';
  const path = [process.env['PATH'], ...SYSTEM_DIRECTORIES].join(':');
  try {
    const { stdout } = await run(program, ['--version'], {
      timeout: RUNC_TIMEOUT_MS,
      env: { ...process.env, PATH: path },
    });
    return { program, version: /version (\S+)/.exec(stdout)?.[1] ?? stdout.split('\n')[0] ?? '' };
  } catch (error) {
    const { code, stderr = '' } = error as { code?: unknown; stderr?: string };
    const said = stderr.trim().split('\n')[0] ?? '';
    return {
      program,
      failure: code === 'ENOENT' ? 'it is not there' : said === '' ? `it ends with ${String(code)}` : said,
    };
  }
}
