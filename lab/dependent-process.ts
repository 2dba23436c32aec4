/** Programs that tests start: they end with who started them, also when that is killed or interrupted. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';

/** Of util-linux, which each Debian has. It becomes the program: same process id, same signals. */
const SETPRIV = '/usr/bin/setpriv';

/**
 * Starts a program that gets SIGTERM when this process is gone (PR_SET_PDEATHSIG, prctl(2)).
 * @param options as of node:child_process
 */
export function spawnDependent(
  program: string,
  args: readonly string[],
  options: SpawnOptions,
): ChildProcess {
  return spawn(SETPRIV, ['--pdeathsig', 'TERM', program, ...args], options);
}
