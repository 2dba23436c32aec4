/** A stream processor run as containerd runs it: pipes for everything, the payload on descriptor 3. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { expect } from 'vitest';

export interface ProcessorRun {
  readonly child: ChildProcess;
  /** In the order in which they happened. */
  readonly events: ('exit' | 'output-end' | 'messages-end')[];
  readonly finished: Promise<ProcessorResult>;
  /** As a containerd does that hangs; false = goes on. */
  stopReading(isStopped?: boolean): void;
}

export interface ProcessorResult {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: Buffer;
  readonly messages: string;
  /** What had arrived on stderr when stdout ended: all that containerd would show. */
  readonly messagesAtOutputEnd: string;
  readonly events: readonly string[];
}

export interface ProcessorInput {
  readonly program: string;
  /** Where the run's own pipes go. */
  readonly directory: string;
  /** File, or named pipe, whose bytes come through a pipe on stdin. */
  readonly input: string;
  /** File whose bytes come through a pipe on descriptor 3; none = descriptor 3 is not open. */
  readonly payload?: string;
}

let runs = 0;

export function runProcessor({ program, directory, input, payload }: ProcessorInput): ProcessorRun {
  runs += 1;
  const output = namedPipe(join(directory, `out-${runs}`));
  const messages = namedPipe(join(directory, `err-${runs}`));
  // bash makes real pipes, where Node would give sockets, which cannot be opened through /proc.
  const redirections = payload === undefined ? '< <(cat "$1")' : '< <(cat "$1") 3< <(cat "$2")';
  const child = spawn('bash', ['-c', `exec "$0" ${redirections}`, program, input, payload ?? ''], {
    stdio: ['ignore', output.writeEnd, messages.writeEnd],
  });
  closeSync(output.writeEnd);
  closeSync(messages.writeEnd);

  const events: ProcessorRun['events'] = [];
  const outputChunks: Buffer[] = [];
  const messageChunks: Buffer[] = [];
  let messagesAtOutputEnd = '';
  output.reader.on('data', (chunk: Buffer) => outputChunks.push(chunk));
  messages.reader.on('data', (chunk: Buffer) => messageChunks.push(chunk));
  const finished = Promise.all([
    ended(output.reader).then(() => {
      events.push('output-end');
      messagesAtOutputEnd = Buffer.concat(messageChunks).toString();
    }),
    ended(messages.reader).then(() => events.push('messages-end')),
    new Promise<void>((resolve) => {
      child.once('exit', () => {
        events.push('exit');
        resolve();
      });
    }),
  ]).then(() => ({
    exitCode: child.exitCode,
    signal: child.signalCode,
    output: Buffer.concat(outputChunks),
    messages: Buffer.concat(messageChunks).toString(),
    messagesAtOutputEnd,
    events,
  }));
  const stopReading = (isStopped = true): void => {
    if (isStopped) output.reader.pause();
    else output.reader.resume();
  };
  return { child, events, finished, stopReading };
}

function ended(reader: Socket): Promise<void> {
  return new Promise((resolve) => {
    reader.once('close', () => {
      resolve();
    });
  });
}

function namedPipe(path: string): { reader: Socket; writeEnd: number } {
  execFileSync('mkfifo', [path]);
  // Non-blocking, or opening would wait for a writer that comes only on the next line.
  const readEnd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writeEnd = openSync(path, constants.O_WRONLY);
  return { reader: new Socket({ fd: readEnd, readable: true, writable: false }), writeEnd };
}

/** A refusal as containerd needs it: the whole message is there when the output ends, after the exit. */
export function expectRefused(result: ProcessorResult, text: string): void {
  expect(result.exitCode).toBe(1);
  expect(result.messages).toMatch(/^latchkey: [A-Z_]+: .*$/);
  expect(result.messages).toContain(text);
  expect(result.messagesAtOutputEnd).toBe(result.messages);
  expect(result.events.indexOf('exit')).toBeLessThan(result.events.indexOf('output-end'));
}
