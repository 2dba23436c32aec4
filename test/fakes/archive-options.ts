/** Options for archives of a test: temporary files in its directory, streams in memory. */
import { Writable } from 'node:stream';
import type { ArchiveOptions } from '#src/store/archive-store.ts';
import { streamOf } from './image.ts';

export interface FakeStreams {
  readonly options: ArchiveOptions;
  /** What was written to standard output. */
  output(): Buffer;
}

export function fakeStreams(temporaryDirectory: string, input: Uint8Array = Buffer.alloc(0)): FakeStreams {
  const chunks: Buffer[] = [];
  const output = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk);
      done();
    },
  });
  const options = { temporaryDirectory, streams: { input: () => streamOf(input), output } };
  return { options, output: () => Buffer.concat(chunks) };
}
