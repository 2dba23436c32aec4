/**
 * Appends the audit log to a file, one JSON document a line, as `latchkey audit export` writes it. The file is opened by
 * its name each time, so it can be rotated at any moment.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LatchkeyError } from '#src/base/errors.ts';
import { MEBIBYTE } from '#src/base/units.ts';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { syncDirectory } from '#src/store/blob-file.ts';
import type { FileTarget } from './export-target.ts';
import type { AuditSink } from './sink.ts';

const OWNER_ONLY = 0o600;
const NEWLINE = 0x0a;
/** An event with the detail of the largest release is a fraction of it. */
const MAX_LINE_BYTES = MEBIBYTE;
const LINE_START = '{"sequence":';

export function fileSink({ path }: FileTarget): AuditSink {
  return {
    send: async (events) => {
      // Read and write, but every write at the end: the file may grow by a rotation tool's hand too.
      const file = await open(path, 'a+', OWNER_ONLY);
      try {
        const { size } = await requireFile(file, path);
        const lastLine = await cutToWholeLines(file, size, path);
        const text = missing(events, lastLine)
          .map((event) => `${JSON.stringify(event)}\n`)
          .join('');
        if (text === '') return;
        await file.appendFile(text);
        await file.sync();
        if (size === 0) await syncDirectory(dirname(path));
      } finally {
        await file.close();
      }
    },
  };
}

/** Those that the file does not end with: a crash after writing them makes them come again. */
function missing(events: readonly AuditEvent[], lastLine: string): readonly AuditEvent[] {
  return events.slice(events.findLastIndex((event) => JSON.stringify(event) === lastLine) + 1);
}

async function requireFile(file: FileHandle, path: string): Promise<{ readonly size: number }> {
  const stats = await file.stat();
  if (stats.isFile()) return stats;
  throw new LatchkeyError('CONFIG_INVALID', `${path} is no regular file`, {
    hint: 'name a file that only the key server writes to',
  });
}

/** Removes a line that a crash has left without its end, and gives the last whole one. */
async function cutToWholeLines(file: FileHandle, size: number, path: string): Promise<string> {
  const length = Math.min(size, MAX_LINE_BYTES);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
  const tail = buffer.subarray(0, bytesRead);
  const end = tail.lastIndexOf(NEWLINE);
  const rest = tail.subarray(end + 1);
  if (rest.length > 0) {
    // What is not ours is not ours to cut.
    if (!LINE_START.startsWith(rest.subarray(0, LINE_START.length).toString())) {
      throw new LatchkeyError('STATE_CONFLICT', `${path} ends with something else than an audit event`, {
        hint: 'move it away, or name another file',
      });
    }
    await file.truncate(size - rest.length);
  }
  return end < 0 ? '' : tail.subarray(tail.subarray(0, end).lastIndexOf(NEWLINE) + 1, end).toString();
}
