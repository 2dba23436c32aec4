/** The containerd program of a node: its version, and what it makes of a configuration file. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { LatchkeyError } from '#src/base/errors.ts';
import type { TomlTable } from './toml-change.ts';
import { parseToml } from './toml-text.ts';

const run = promisify(execFile);

/** A dump has some 10 KiB; large registry settings make it longer. */
const MAX_DUMP_BYTES = 16 * 1024 * 1024;
/** Neither call opens a socket or a database; one that takes longer hangs. */
const TIMEOUT_MS = 30_000;

/**
 * `1.6.20~ds1`
 * @throws LatchkeyError CONFIG_INVALID when the program cannot be run
 */
export async function containerdVersion(program: string): Promise<string> {
  try {
    const { stdout } = await run(program, ['--version'], { timeout: TIMEOUT_MS });
    return stdout.trim().split(/\s+/)[2] ?? stdout;
  } catch (error) {
    throw new LatchkeyError('CONFIG_INVALID', `${program} cannot be run`, {
      hint: 'install containerd 1.6 or later, or name its program with --containerd',
      cause: error,
    });
  }
}

/**
 * The configuration as containerd understands the file and what it imports.
 * @param shown the file that is meant, where another one is read in its place
 * @throws LatchkeyError CONFIG_INVALID with containerd's own words when it does not take the file
 */
export async function effectiveConfiguration(
  program: string,
  path: string,
  shown = path,
): Promise<TomlTable> {
  try {
    const { stdout } = await run(program, ['--config', path, 'config', 'dump'], {
      timeout: TIMEOUT_MS,
      maxBuffer: MAX_DUMP_BYTES,
    });
    return parseToml(stdout, `containerd's dump of ${shown}`);
  } catch (error) {
    if (error instanceof LatchkeyError) throw error;
    const { stderr = '' } = error as { stderr?: string };
    const said = stderr.trim().split('\n').at(-1)?.replaceAll(path, shown) ?? '';
    throw new LatchkeyError(
      'CONFIG_INVALID',
      `containerd does not take the configuration ${shown}: ${said}`,
      {
        hint: "see what it says to 'containerd config dump'; nothing was changed",
        cause: error,
      },
    );
  }
}
