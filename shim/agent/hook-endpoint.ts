/**
 * Where start hooks come: the hook is the same little program as the stream processor, on a socket of its own. The agent
 * reads the container's state from its stdin, writes a refusal to its stderr, which the runtime shows, and answers
 * its exit status.
 */
import { createReadStream, write } from 'node:fs';
import { type Server as HookServer, type Socket, createServer } from 'node:net';
import { promisify } from 'node:util';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { MAX_HOOK_STATE_BYTES } from '#src/base/limits.ts';
import { type OpenFile, type ProcessorFiles, openProcessorFiles } from './processor-files.ts';

export type { HookServer };

const PROCESS_ID_BYTES = 4;
const EXIT_OK = 0;
const EXIT_REFUSED = 1;

export interface HookEndpointParts {
  /** The only executable that is served. */
  readonly programPath: string;
  readonly authorize: (state: Uint8Array) => Promise<void>;
  readonly onRefused: (error: LatchkeyError) => void;
}

/** Listens on the hooks' socket. */
export async function serveHooks(socketPath: string, parts: HookEndpointParts): Promise<HookServer> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.once('data', (data) => {
      void serve(socket, data, parts);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, resolve);
  });
  return server;
}

async function serve(socket: Socket, data: Buffer, parts: HookEndpointParts): Promise<void> {
  const processId = data.length === PROCESS_ID_BYTES ? data.readInt32LE() : 0;
  let files: ProcessorFiles | undefined;
  let status = EXIT_REFUSED;
  try {
    files = await openProcessorFiles(processId, parts.programPath);
    await parts.authorize(await readState(files.input));
    status = EXIT_OK;
  } catch (error) {
    const known = toLatchkeyError(error);
    parts.onRefused(known);
    // A runtime that has closed its end does not want to know; the reason is in our log.
    const line = Buffer.from(`latchkey: ${known.line}\n`);
    if (files !== undefined) await promisify(write)(files.messages.fd, line).catch(() => undefined);
  }
  if (files !== undefined) for (const file of [files.input, files.output, files.messages]) file.close();
  socket.end(Buffer.of(status));
}

async function readState({ fd }: OpenFile): Promise<Buffer> {
  const chunks: Buffer[] = [];
  // One byte more than it may have tells that it is too long; the rest is not waited for.
  for await (const chunk of createReadStream('', { fd, end: MAX_HOOK_STATE_BYTES, autoClose: false })) {
    chunks.push(chunk as Buffer);
  }
  const state = Buffer.concat(chunks);
  if (state.length <= MAX_HOOK_STATE_BYTES) return state;
  throw new LatchkeyError(
    'LIMIT_EXCEEDED',
    `the container's state has more than ${MAX_HOOK_STATE_BYTES} bytes`,
  );
}
