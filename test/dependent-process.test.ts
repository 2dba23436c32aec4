import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { expect, it } from 'vitest';

const STARTER = `
  import { spawnDependent } from ${JSON.stringify(new URL('../lab/dependent-process.ts', import.meta.url).href)};
  console.log(spawnDependent('/bin/sleep', ['600'], { stdio: 'ignore' }).pid);
`;

it.each(['SIGKILL', 'SIGINT'] as const)(
  'what a test has started ends when the test gets %s',
  async (signal) => {
    const starter = spawn(process.execPath, ['--input-type=module', '--eval', STARTER], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let pid = 0;
    for await (const line of createInterface(starter.stdout)) {
      pid = Number(line);
      break;
    }
    expect(isRunning(pid)).toBe(true);
    starter.kill(signal);
    await expect.poll(() => isRunning(pid)).toBe(false);
  },
);

/** Not so once it has ended, also where nobody has waited for it. */
function isRunning(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
}
