/** Puts the stream processor where containerd's configuration names it. */
import { rename, writeFile } from 'node:fs/promises';
import { programCommand } from '#src/base/installation.ts';
import { nodeProcessorScript } from '../processor/node-processor.ts';
import { hasNativeProcessor, processorProgram } from '../processor/program.ts';
import type { AgentPaths, ProcessorKind } from './agent-config.ts';

const EXECUTABLE_MODE = 0o755;

export interface InstalledProcessor {
  readonly kind: 'native' | 'node';
  /** What a process that runs it shows as its executable (/proc/PID/exe). */
  readonly executable: string;
}

/**
 * Writes it anew at each start of the agent: it holds the socket's path. A running one keeps its old file.
 * @param kind `auto` takes the native one where there is one
 * @param architecture as in `process.arch`
 * @throws LatchkeyError CONFIG_INVALID for a socket path that is too long
 */
export async function installProcessor(
  kind: ProcessorKind,
  paths: Pick<AgentPaths, 'processorProgram' | 'processorSocket'>,
  architecture: string = process.arch,
): Promise<InstalledProcessor> {
  const { processorProgram: path, processorSocket } = paths;
  if (kind === 'auto' && hasNativeProcessor(architecture)) {
    await replaceFile(path, processorProgram(processorSocket, architecture));
    return { kind: 'native', executable: path };
  }
  await replaceFile(path, nodeProcessorScript(programCommand('shim/processor/main.js'), processorSocket));
  // Any program of this Node passes for it: only root reaches the socket, whose directory is private.
  return { kind: 'node', executable: process.execPath };
}

async function replaceFile(path: string, content: string | Buffer): Promise<void> {
  const temporary = `${path}.new`;
  await writeFile(temporary, content, { mode: EXECUTABLE_MODE });
  await rename(temporary, path);
}
