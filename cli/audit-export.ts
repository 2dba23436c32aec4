/** Writes the audit log to a file. */
import { writeWholeFile } from './whole-file.ts';

/**
 * Writes events, or lines of another kind, to a new file, one JSON document a line. Never overwrites, for an export is evidence.
 * @returns the number of lines
 * @throws LatchkeyError STATE_CONFLICT when the file exists; what the events raise
 */
export async function writeAuditExport(path: string, events: AsyncIterable<object>): Promise<number> {
  return writeWholeFile(path, async (file) => {
    let count = 0;
    for await (const event of events) {
      await file.write(`${JSON.stringify(event)}\n`);
      count += 1;
    }
    return count;
  });
}
