/** What is left of ours in a file once the marked lines are out: a program that rewrote the file keeps no marks. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { AgentPaths } from '../agent/agent-config.ts';
import { parseToml } from './toml-text.ts';

/**
 * Refuses to call a file ours no longer that still gates containerd, or that containerd would not read.
 * @param text of the file without the marked lines
 * @param backup the file as it was before the installation; null when there was none
 * @throws LatchkeyError STATE_CONFLICT saying what is left to be done by hand
 */
export function refuseUnmarkedRest(
  text: string,
  { path, backup }: { readonly path: string; readonly backup: string | null },
  paths: Pick<AgentPaths, 'processorProgram' | 'snapshotterSocket'>,
): void {
  const fault = restFault(text, path, [paths.processorProgram, paths.snapshotterSocket]);
  if (fault === undefined) return;
  const instead = backup === null ? 'remove it' : `put ${backup} in its place`;
  throw new LatchkeyError('STATE_CONFLICT', `${path} was rewritten since the installation: ${fault}`, {
    hint: `take out by hand what is Latchkey's, or ${instead}, then try again; nothing was changed`,
  });
}

function restFault(text: string, path: string, ours: readonly string[]): string | undefined {
  try {
    const values = JSON.stringify(parseToml(text, path));
    const left = ours.find((value) => values.includes(JSON.stringify(value)));
    return left === undefined ? undefined : `without the lines that are marked, it still names ${left}`;
  } catch {
    return 'without the lines that are marked, it is not valid any more';
  }
}
