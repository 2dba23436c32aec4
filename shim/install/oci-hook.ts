/** The file in a hooks directory that makes podman and CRI-O ask the agent before each start (oci-hooks(5)). */

/** Where both look by default for hooks of the administrator. */
export const HOOKS_DIRECTORY = '/etc/containers/oci/hooks.d';
/** The agent may have to ask the key server, which gets ten seconds; then the start is refused by the runtime. */
const TIMEOUT_SECONDS = 30;

/**
 * Pure: the text of the file.
 * @param program path of the hook that the agent installs
 */
export function ociHookFile(program: string): string {
  const hook = { path: program, timeout: TIMEOUT_SECONDS };
  return `${JSON.stringify({ version: '1.0.0', hook, when: { always: true }, stages: ['createRuntime'] }, null, 2)}\n`;
}
