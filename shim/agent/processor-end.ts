/**
 * Sees to it that an answered stream processor ends. containerd waits for its exit without a limit, and so does whoever pulls
 * or starts: one that is frozen is killed. It dies with a reason on its stderr, and its stdout is kept open until containerd
 * has seen its exit status, or the reason would be lost.
 */
import { write } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { LatchkeyError } from '#src/base/errors.ts';
import { PROCESSOR_EXIT_TIMEOUT_MS } from '#src/base/limits.ts';
import { type OpenFile, reopenOutput } from './processor-files.ts';
import { type ProcessorProcess, isAlive, killProcessor } from './processor-process.ts';

/** containerd reaps an exited processor within milliseconds; this also covers a loaded machine. */
const HOLD_OUTPUT_MS = 300;
const POLL_MS = 10;

/** Writes to a processor's stderr what its client is to read. */
export async function tell(messages: OpenFile, error: LatchkeyError): Promise<void> {
  try {
    // Without a line end: containerd puts more behind it, and clients show one line.
    await promisify(write)(messages.fd, Buffer.from(`latchkey: ${error.line}`));
  } catch {
    // containerd has closed its end; the reason is in our log.
  }
}

/**
 * Waits for a processor that was told of a refusal, and kills it when it does not end.
 * @param output its stdout, which is closed when containerd has the refusal
 * @returns whether it was killed
 */
export async function endRefused(
  processor: ProcessorProcess,
  output: OpenFile,
  timeoutMs = PROCESSOR_EXIT_TIMEOUT_MS,
): Promise<boolean> {
  await untilReaped(processor, timeoutMs);
  const wasKilled = killProcessor(processor);
  if (wasKilled) await untilReaped(processor, timeoutMs);
  await sleep(HOLD_OUTPUT_MS);
  output.close();
  return wasKilled;
}

/**
 * Waits for a processor whose layer is through, and kills it when it does not end.
 * @param socket it came by: an ended process leaves none open, and to wait for that costs a layer nothing
 * @returns whether it was killed
 */
export async function endServed(
  processor: ProcessorProcess,
  socket: Socket,
  timeoutMs = PROCESSOR_EXIT_TIMEOUT_MS,
): Promise<boolean> {
  if ((await closes(socket, timeoutMs)) || !isAlive(processor)) return false;
  // Ours are closed: containerd would otherwise have waited for us after each layer.
  const messages = await reopenOutput(processor, 'messages');
  if (messages !== undefined) await tell(messages, stuck());
  messages?.close();
  const output = await reopenOutput(processor, 'output');
  const wasKilled = killProcessor(processor);
  await untilReaped(processor, timeoutMs);
  await sleep(HOLD_OUTPUT_MS);
  output?.close();
  return wasKilled;
}

function stuck(): LatchkeyError {
  return new LatchkeyError('NET_TIMEOUT', 'the stream processor of a layer did not end and was killed', {
    hint: 'pull the image or start the container again',
  });
}

async function untilReaped(processor: ProcessorProcess, timeoutMs: number): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (performance.now() < deadlineMs && isAlive(processor)) await sleep(POLL_MS);
}

function closes(socket: Socket, withinMs: number): Promise<boolean> {
  if (socket.closed) return Promise.resolve(true);
  return new Promise((resolve) => {
    const onClose = (): void => {
      clearTimeout(timer);
      resolve(true);
    };
    const timer = setTimeout(() => {
      socket.off('close', onClose);
      resolve(false);
    }, withinMs);
    socket.once('close', onClose);
  });
}
