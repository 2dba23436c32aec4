/**
 * The files of a stream processor, opened through /proc: the same pipes containerd gave it, so that no layer
 * byte crosses the socket.
 */
import { closeSync, constants, open, openSync, readSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import {
  MAX_PROCESSOR_PAYLOAD_BYTES,
  PIPE_CHUNK_BYTES,
  PROCESSOR_HELLO_TIMEOUT_MS,
} from '#src/base/limits.ts';
import { type ProcessorProcess, findProcessor, statusOf } from './processor-process.ts';

/** A payload is in its pipe, as a rule, before the processor is started. */
const POLL_MS = 1;

export interface OpenFile {
  readonly fd: number;
  /** To be called once. */
  close(): void;
}

export interface ProcessorFiles {
  readonly process: ProcessorProcess;
  readonly input: OpenFile;
  readonly output: OpenFile;
  readonly messages: OpenFile;
  /** What containerd sent on descriptor 3; undefined without a payload. */
  readonly payload: Buffer | undefined;
}

/**
 * Opens the files of a processor.
 * @param programPath the executable it must be
 * @throws LatchkeyError AUTH_FORBIDDEN when the process is not a stream processor
 */
export async function openProcessorFiles(processId: number, programPath: string): Promise<ProcessorFiles> {
  const process = findProcessor(processId, programPath);
  const opened: OpenFile[] = [];
  try {
    // Not at once: a pipe without anybody at its other end is opened when somebody comes.
    const outcomes = await Promise.allSettled([
      openFile(processId, 0, constants.O_RDONLY),
      openFile(processId, 1, constants.O_WRONLY),
      openFile(processId, 2, constants.O_WRONLY),
      readPayload(processId),
    ]);
    const [input, output, messages, payload] = outcomes;
    for (const outcome of [input, output, messages]) {
      if (outcome.status === 'fulfilled') opened.push(outcome.value);
    }
    return {
      process,
      input: valueOf(input),
      output: valueOf(output),
      messages: valueOf(messages),
      payload: valueOf(payload),
    };
  } catch (error) {
    for (const file of opened) file.close();
    throw new LatchkeyError(
      'AUTH_FORBIDDEN',
      `process ${processId} has not the files of a stream processor`,
      {
        cause: error,
      },
    );
  }
}

/**
 * Opens an output of a processor once more, without waiting for anybody at its other end.
 * @returns undefined when nobody is there any more, or the processor is gone
 */
export async function reopenOutput(
  { id }: ProcessorProcess,
  which: 'output' | 'messages',
): Promise<OpenFile | undefined> {
  const descriptor = which === 'output' ? 1 : 2;
  return openFile(id, descriptor, constants.O_WRONLY | constants.O_NONBLOCK).catch(() => undefined);
}

async function openFile(processId: number, descriptor: number, flags: number): Promise<OpenFile> {
  const fd = await promisify(open)(`/proc/${processId}/fd/${descriptor}`, flags);
  return {
    fd,
    close: () => {
      closeSync(fd);
    },
  };
}

function valueOf<Value>(outcome: PromiseSettledResult<Value>): Value {
  if (outcome.status === 'rejected') throw outcome.reason;
  return outcome.value;
}

/** Without a payload descriptor 3 is not open, or is something else than a pipe. */
async function readPayload(processId: number): Promise<Buffer | undefined> {
  const path = `/proc/${processId}/fd/3`;
  if (statusOf(path)?.isFIFO() !== true) return undefined;
  // Waiting in a read would keep a thread, and as many as Node has for files could be lost to pipes that nobody writes to.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return await readAll(fd, MAX_PROCESSOR_PAYLOAD_BYTES);
  } finally {
    closeSync(fd);
  }
}

/** What a pipe has until its end; undefined when that is too much or does not come. */
async function readAll(pipe: number, maxBytes: number): Promise<Buffer | undefined> {
  const deadlineMs = performance.now() + PROCESSOR_HELLO_TIMEOUT_MS;
  const chunk = Buffer.allocUnsafe(PIPE_CHUNK_BYTES);
  const chunks: Buffer[] = [];
  for (let length = 0; length <= maxBytes;) {
    try {
      const bytesRead = readSync(pipe, chunk);
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
