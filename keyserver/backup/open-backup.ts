/** Reads a backup: its header for everybody, the rest with the root key. Nothing is kept in memory. */
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { MAX_BACKUP_HEADER_BYTES } from '../limits.ts';
import { type BackupHeader, backupKey, notABackup, parseBackupHeader } from './backup-header.ts';
import { openChunks } from './sealed-chunks.ts';
import { type TableLine, parseTableLine } from './table-lines.ts';

export interface BackupFile {
  readonly path: string;
  readonly header: BackupHeader;
  /** The header as it stands in the file. */
  readonly headerLine: Uint8Array;
}

/** @throws LatchkeyError INPUT_MALFORMED, INPUT_UNSUPPORTED, STATE_NOT_FOUND for a file that cannot be read */
export async function openBackup(path: string): Promise<BackupFile> {
  let start: Buffer;
  try {
    const file = await open(path);
    try {
      const buffer = Buffer.alloc(MAX_BACKUP_HEADER_BYTES);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
      start = buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!['ENOENT', 'EACCES', 'ENOTDIR', 'EISDIR', 'ESPIPE'].includes(systemErrorCode(error) ?? ''))
      throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no backup in ${path}`, {
      hint: 'name a file that `latchkey server backup` has written',
      cause: error,
    });
  }
  const end = start.indexOf('\n');
  if (end < 0) throw notABackup();
  const headerLine = start.subarray(0, end + 1);
  return { path, header: parseBackupHeader(headerLine), headerLine };
}

/**
 * The content of a backup, line by line. It is whole when it has ended without an error.
 * @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED, INPUT_TRUNCATED, INPUT_MALFORMED
 */
export async function* backupLines(
  { path, header, headerLine }: BackupFile,
  rootKey: Uint8Array,
): AsyncGenerator<TableLine, void, undefined> {
  const sealed = (await open(path)).createReadStream({ start: headerLine.length });
  const opened = Readable.from(openChunks(backupKey(rootKey, header, headerLine), sealed));
  const plain = createGunzip();
  opened.once('error', (error) => plain.destroy(error));
  try {
    for await (const line of linesOf(opened.pipe(plain))) yield parseTableLine(line);
  } finally {
    plain.destroy();
    opened.destroy();
    sealed.destroy();
  }
}

const LINE_END = 0x0a;

/** Of our own, as `node:readline` ends lines at characters that JSON may hold, too. */
async function* linesOf(source: AsyncIterable<Buffer>): AsyncGenerator<string, void, undefined> {
  let begun: Buffer[] = [];
  for await (const bytes of source) {
    let from = 0;
    for (let end = bytes.indexOf(LINE_END); end >= 0; end = bytes.indexOf(LINE_END, from)) {
      yield Buffer.concat([...begun, bytes.subarray(from, end)]).toString();
      begun = [];
      from = end + 1;
    }
    begun.push(bytes.subarray(from));
  }
}
