/**
 * The stream processor where no native one runs (`program.ts`): the same protocol from Node, at some 30 ms a layer. It
 * leaves its standard input, output and descriptor 3 alone; the agent opens them.
 */
import { spawn } from 'node:child_process';
import { writeSync } from 'node:fs';
import { createConnection } from 'node:net';
import { HOLD_OUTPUT_MS, requireSocketPath, unansweredMessage } from './socket-path.ts';

const STANDARD_ERROR = 2;
const EXIT_UNANSWERED = 1;

/**
 * The text of a program that containerd can start: it has no arguments, and does not depend on containerd's environment.
 * @param command what runs `main` of this file
 * @throws LatchkeyError CONFIG_INVALID for a path that does not fit a socket address
 */
export function nodeProcessorScript(command: readonly string[], socketPath: string): string {
  requireSocketPath(socketPath);
  const words = [...command, socketPath].map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`);
  return [
    '#!/bin/sh',
    '# Settings of containerd for other programs; the second costs 50 ms.',
    'unset NODE_OPTIONS NODE_EXTRA_CA_CERTS',
    '# Without a payload Node would open something of its own there, which could be taken for one.',
    '[ -e /proc/self/fd/3 ] || exec 3</dev/null',
    `exec ${words.join(' ')}`,
    '',
  ].join('\n');
}

/** Asks the agent and ends the process with its answer. @param args the path of the agent's socket */
export async function main([socketPath = '']: readonly string[]): Promise<void> {
  const status = await askAgent(socketPath);
  if (status !== undefined) process.exit(status);
  writeSync(STANDARD_ERROR, unansweredMessage(socketPath));
  // Keeps stdout, and nothing else, open for a moment.
  spawn('sleep', [String(HOLD_OUTPUT_MS / 1000)], {
    stdio: ['ignore', 'inherit', 'ignore'],
    detached: true,
  }).unref();
  process.exit(EXIT_UNANSWERED);
}

/** The status to exit with; undefined when nobody answers. */
function askAgent(socketPath: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const socket = createConnection(socketPath, () => {
      const processId = Buffer.alloc(4);
      processId.writeInt32LE(process.pid);
      socket.write(processId);
    });
    socket.once('data', (data) => {
      resolve(data[0]);
    });
    socket.once('error', () => {
      resolve(undefined);
    });
    socket.once('close', () => {
      resolve(undefined);
    });
  });
}
