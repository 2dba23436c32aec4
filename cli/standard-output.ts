/**
 * Standard output, on which a result may be told once and never again, as new shares of a root key are. To a file Node.js
 * writes what there is room for, drops the rest without a word, and tells of a full disk when the process has ended already.
 */
import { fstatSync, writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import { isatty } from 'node:tty';
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { TextSink } from './context.ts';

export interface StandardOutput {
  /** For what is piped, such as archives. */
  readonly stream: NodeJS.WritableStream;
  /** @throws LatchkeyError STORAGE_FULL, STORAGE_FAILED when a file does not take all of it; whoever sits there sees it then */
  write(text: string): void;
}

/**
 * @param people where they are told, should they be there
 * @param fileDescriptor where it goes to
 */
export function standardOutput(people: TextSink = process.stderr, fileDescriptor = 1): StandardOutput {
  if (!isFile(fileDescriptor)) {
    return {
      stream: process.stdout,
      write: (text) => {
        process.stdout.write(text);
      },
    };
  }
  return {
    stream: new Writable({
      write: (bytes: Buffer, _encoding, done) => {
        try {
          writeWhole(fileDescriptor, bytes);
          done();
        } catch (error) {
          done(error as Error);
        }
      },
    }),
    write: (text) => {
      try {
        writeWhole(fileDescriptor, Buffer.from(text));
      } catch (error) {
        if (people.isTTY === true) people.write(text);
        throw notWritten(error);
      }
    },
  };
}

/** Of these Node.js makes a stream that counts no bytes; pipes and terminals are written to whole. */
function isFile(fileDescriptor: number): boolean {
  const status = fstatSync(fileDescriptor);
  return status.isFile() || (status.isCharacterDevice() && !isatty(fileDescriptor));
}

function writeWhole(fileDescriptor: number, bytes: Uint8Array): void {
  for (let left = bytes; left.length > 0;) left = left.subarray(writeSync(fileDescriptor, left));
}

function notWritten(cause: unknown): LatchkeyError {
  const { code, message } = toLatchkeyError(cause);
  return new LatchkeyError(code, `the result cannot be written to standard output: ${message}`, {
    hint: 'make room; what the command does may be done, so look before you run it again',
    cause,
  });
}
