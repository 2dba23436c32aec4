/** Named pipes, and shells that feed or drain them beside this thread. */
import { execFileSync, spawn } from 'node:child_process';

/** Makes a named pipe. */
export function makePipe(path: string): string {
  execFileSync('mkfifo', [path]);
  return path;
}

/** Starts a shell script; `$1`, `$2` ... are the arguments. @returns resolves when it has ended */
export function beside(script: string, ...args: string[]): Promise<void> {
  const child = spawn('bash', ['-c', script, 'beside', ...args], { stdio: 'ignore' });
  return new Promise((resolve) => {
    child.once('exit', () => {
      resolve();
    });
  });
}
