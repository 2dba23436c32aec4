/** Writes containerd's configuration with Latchkey in it, keeping what was there beside it. */
import { execFile } from 'node:child_process';
import { copyFile, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { parse, stringify } from 'smol-toml';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { makeDirectory } from '#src/base/make-directory.ts';
import type { AgentPaths } from '../agent/agent-config.ts';
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';
import { type TomlTable, withLatchkey } from './containerd-config.ts';

const NEW_CONFIGURATION_MODE = 0o644;
const PERMISSION_BITS = 0o777;

/** containerd's own default for `root`. */
const DEFAULT_CONTAINERD_ROOT = '/var/lib/containerd';
const PRIVATE_DIRECTORY_MODE = 0o700;

export interface InstallResult {
  readonly containerdVersion: string;
  readonly configPath: string;
  /** False when the configuration was as it should be already. */
  readonly changed: boolean;
  /** The configuration that was there before; undefined when there was none, or nothing changed. */
  readonly backupPath: string | undefined;
  /** The configuration as it is (or, on a dry run, would be) now. */
  readonly configuration: string;
}

export interface InstallOptions {
  readonly paths: AgentPaths;
  readonly configPath: string;
  readonly containerdProgram: string;
  readonly platform: string;
  readonly dryRun: boolean;
}

/**
 * Detects containerd and sets it up. Running it again changes nothing.
 * @throws LatchkeyError CONFIG_INVALID for an unreadable configuration or an unsupported containerd
 */
export async function installIntoContainerd(options: InstallOptions): Promise<InstallResult> {
  const { paths, configPath, dryRun } = options;
  const containerdVersion = await detectVersion(options.containerdProgram);
  const before = await readConfiguration(configPath);
  const after = withLatchkey(before.table, {
    containerdVersion,
    snapshotterSocket: paths.snapshotterSocket,
    processor: { path: paths.processorProgram, args: [] },
    snapshotterRoot: paths.diskDirectory,
    platform: options.platform,
  });
  const configuration = `${stringify(after)}\n`;
  const changed = stringify(before.table) !== stringify(after);
  const backupPath = before.exists && changed ? `${configPath}.before-latchkey` : undefined;
  if (changed && !dryRun) {
    await makeDirectory(dirname(configPath));
    if (backupPath !== undefined && !(await exists(backupPath))) await copyFile(configPath, backupPath);
    // The file may hold registry passwords: whoever could not read it before cannot read it now.
    const { mode } = before.exists ? await stat(configPath) : { mode: NEW_CONFIGURATION_MODE };
    await rm(`${configPath}.new`, { force: true });
    await writeFile(`${configPath}.new`, configuration, { mode: mode & PERMISSION_BITS, flush: true });
    await rename(`${configPath}.new`, configPath);
  }
  if (!dryRun) await createStatisticsDirectory(after, containerdVersion);
  return { containerdVersion, configPath, changed, backupPath, configuration };
}

/**
 * containerd 1.6 cannot be told where a proxy snapshotter keeps its files; it looks for this directory when a
 * kubelet asks for disk statistics, and fails without it.
 */
async function createStatisticsDirectory(configuration: TomlTable, containerdVersion: string): Promise<void> {
  if (!/^v?1\.6\b/.test(containerdVersion)) return;
  const root = typeof configuration['root'] === 'string' ? configuration['root'] : DEFAULT_CONTAINERD_ROOT;
  const directory = join(root, `io.containerd.snapshotter.v1.${SNAPSHOTTER_NAME}`);
  await makeDirectory(directory, PRIVATE_DIRECTORY_MODE);
}

/** The configuration file as a table; empty when there is none. */
export async function readConfiguration(path: string): Promise<{ exists: boolean; table: TomlTable }> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return { exists: false, table: {} };
    throw error;
  }
  try {
    return { exists: true, table: parse(text) };
  } catch (error) {
    const [line] = (error instanceof Error ? error.message : String(error)).split('\n');
    throw new LatchkeyError('CONFIG_INVALID', `${path} is not valid: ${line ?? ''}`, {
      hint: 'mend it first; nothing was changed',
      cause: error,
    });
  }
}

async function detectVersion(program: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(program, ['--version']);
    return stdout.trim().split(/\s+/)[2] ?? stdout;
  } catch (error) {
    throw new LatchkeyError('CONFIG_INVALID', `${program} cannot be run`, {
      hint: 'install containerd 1.6 or later, or name its program with --containerd',
      cause: error,
    });
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}
