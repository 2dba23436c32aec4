/** What can be wrong with the file that makes podman and CRI-O run the start hook. */
import { type Finding, fault, ok } from './finding.ts';
import { ociHookFault } from './oci-hook.ts';

export interface HookFacts {
  readonly path: string;
  /** Undefined when there is no file. */
  readonly text: string | undefined;
  /** What it has to run. */
  readonly program: string;
}

const REINSTALL = "run 'latchkey node install'";

export function hookFindings({ path, text, program }: HookFacts): Finding[] {
  if (text === undefined) {
    const detail = `there is no ${path}, so that starts of podman and CRI-O ask nobody`;
    return [fault('hook-file-missing', 'bad', detail, REINSTALL)];
  }
  const why = ociHookFault(text, program);
  if (why !== undefined) {
    return [fault('hook-file-wrong', 'bad', `${path} ${why}`, `${REINSTALL}, which keeps a copy of it`)];
  }
  return [ok('hook-file', `${path} runs ${program} at every start`)];
}
