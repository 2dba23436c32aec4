/**
 * The files of a stream processor, opened through /proc: the same pipes containerd gave it, so that no layer
 * byte crosses the socket. The process id is the caller's word, hence the check that it runs our program.
 */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { constants } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import {
  MAX_PROCESSOR_PAYLOAD_BYTES,
  PIPE_CHUNK_BYTES,
  PROCESSOR_HELLO_TIMEOUT_MS,
} from '#src/base/limits.ts';

const POLL_MS = 5;

export interface ProcessorFiles {
  readonly input: FileHandle;
  readonly output: FileHandle;
  readonly messages: FileHandle;
  /** What containerd sent on descriptor 3; undefined without a payload. */
  readonly payload: Buffer | undefined;
}

/**
 * Opens the files of a processor.
 * @param programPath the executable it must be
 * @throws LatchkeyError AUTH_FORBIDDEN when the process is not a stream processor
 */
export async function openProcessorFiles(processId: number, programPath: string): Promise<ProcessorFiles> {
  await requireProgram(processId, programPath);
  const opened: FileHandle[] = [];
  const openAs = async (descriptor: number, flags: number): Promise<FileHandle> => {
    const handle = await open(`/proc/${processId}/fd/${descriptor}`, flags);
    opened.push(handle);
    return handle;
  };
  try {
    const input = await openAs(0, constants.O_RDONLY);
    const output = await openAs(1, constants.O_WRONLY);
    const messages = await openAs(2, constants.O_WRONLY);
    return { input, output, messages, payload: await readPayload(processId) };
  } catch (error) {
    await Promise.all(opened.map((handle) => handle.close()));
    throw new LatchkeyError(
      'AUTH_FORBIDDEN',
      `process ${processId} has not the files of a stream processor`,
      {
        cause: error,
      },
    );
  }
}

async function requireProgram(processId: number, programPath: string): Promise<void> {
  const [actual, expected] = await Promise.all([
    stat(`/proc/${processId}/exe`).catch(() => undefined),
    stat(programPath).catch(() => undefined),
  ]);
  const same = actual !== undefined && actual.ino === expected?.ino && actual.dev === expected.dev;
  if (!same) throw new LatchkeyError('AUTH_FORBIDDEN', `process ${processId} is not the stream processor`);
}

/** Without a payload descriptor 3 is not open, or is something else than a pipe. */
async function readPayload(processId: number): Promise<Buffer | undefined> {
  const path = `/proc/${processId}/fd/3`;
  const status = await stat(path).catch(() => undefined);
  if (status?.isFIFO() !== true) return undefined;
  // Not waiting in a read: as many threads as Node has for files could be lost to pipes that nobody writes to.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return await readAll(handle, MAX_PROCESSOR_PAYLOAD_BYTES);
  } finally {
    await handle.close();
  }
}

/** What a pipe has until its end; undefined when that is too much or does not come. */
async function readAll(pipe: FileHandle, maxBytes: number): Promise<Buffer | undefined> {
  const deadlineMs = performance.now() + PROCESSOR_HELLO_TIMEOUT_MS;
  const chunk = Buffer.allocUnsafe(PIPE_CHUNK_BYTES);
  const chunks: Buffer[] = [];
  for (let length = 0; length <= maxBytes;) {
    try {
      const { bytesRead } = await pipe.read(chunk);
      if (bytesRead === 0) return Buffer.concat(chunks);
      chunks.push(Buffer.from(chunk.subarray(0, bytesRead)));
      length += bytesRead;
    } catch (error) {
      if (systemErrorCode(error) !== 'EAGAIN') throw error;
      if (performance.now() > deadlineMs) return undefined;
      await sleep(POLL_MS);
    }
  }
  return undefined;
}

/** True while the process exists and has not been reaped. */
export async function isAlive(processId: number): Promise<boolean> {
  return (await stat(`/proc/${processId}`).catch(() => undefined)) !== undefined;
}
