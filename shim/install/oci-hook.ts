/** The file in a hooks directory that makes podman and CRI-O ask the agent before each start (oci-hooks(5)). */
import { join } from 'node:path';
import * as z from 'zod';
import { parseJson } from '#src/base/json.ts';

/** Where both look by default for hooks of the administrator. */
export const HOOKS_DIRECTORY = '/etc/containers/oci/hooks.d';
/** The agent may have to ask the key server, which gets ten seconds; then the start is refused by the runtime. */
const TIMEOUT_SECONDS = 30;

const hookSchema = z.object({
  hook: z.object({ path: z.string() }),
  when: z.object({ always: z.boolean().optional() }),
  stages: z.array(z.string()),
});

export function hookFilePath(directory: string): string {
  return join(directory, 'latchkey.json');
}

/**
 * Pure: the text of the file.
 * @param program path of the hook that the agent installs
 */
export function ociHookFile(program: string): string {
  const hook = { path: program, timeout: TIMEOUT_SECONDS };
  return `${JSON.stringify({ version: '1.0.0', hook, when: { always: true }, stages: ['createRuntime'] }, null, 2)}\n`;
}

/**
 * Pure: why a file does not gate every start.
 * @param program path of the hook that it has to run
 * @returns words; undefined when it does
 */
export function ociHookFault(text: string, program: string): string | undefined {
  const document = readDocument(text);
  if (document === undefined) return 'is not a hook in JSON';
  const { hook, when, stages } = document;
  if (hook.path !== program) return `runs another program than ${program}`;
  if (when.always !== true || !stages.includes('createRuntime')) return 'does not run at every start';
  return undefined;
}

function readDocument(text: string): z.infer<typeof hookSchema> | undefined {
  try {
    return hookSchema.safeParse(parseJson(text, 'the hook')).data;
  } catch {
    return undefined;
  }
}
