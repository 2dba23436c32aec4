/**
 * An archive as a plain tar that can be read at any place: the file itself, or a temporary copy when it is compressed or
 * comes from a stream.
 */
import { finished } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { Readable, type Transform, pipeline } from 'node:stream';
import { stat } from 'node:fs/promises';
import { LatchkeyError, systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { MAX_UNPACK_RATIO, MIN_UNPACK_BYTES } from '#src/base/limits.ts';
import { RandomAccessFile } from './random-access-file.ts';
import { type SpooledStream, spoolStream } from './spool.ts';
import { throwIfAborted } from './verified-stream.ts';

export interface ArchiveInput {
  /** For messages. */
  readonly location: string;
  readonly content: { readonly path: string } | { readonly stream: () => AsyncIterable<Uint8Array> };
  /** Where temporary files go; on a disk, as they may be large. */
  readonly temporaryDirectory: string;
}

const MAGIC_BYTES = 6;
const GZIP_MAGIC = '1f8b';
const ZSTD_MAGIC = '28b52ffd';
/** bzip2 and xz, which Node cannot unpack. */
const FOREIGN_MAGIC = /^(?:425a68|fd377a585a00)/;

/**
 * Opens an archive.
 * @throws LatchkeyError STATE_NOT_FOUND, INPUT_NOT_AN_IMAGE, INPUT_MALFORMED, INPUT_TRUNCATED, LIMIT_EXCEEDED, STORAGE_FULL,
 *   INTERRUPTED
 */
export async function openArchiveFile(input: ArchiveInput, signal?: AbortSignal): Promise<SpooledStream> {
  throwIfAborted(signal);
  const packed = await openPacked(input, signal);
  const magic = Buffer.from(await packed.file.read(0, MAGIC_BYTES)).toString('hex');
  if (FOREIGN_MAGIC.test(magic)) {
    await packed.file.close();
    throw new LatchkeyError('INPUT_UNSUPPORTED', `${input.location} is compressed by bzip2 or xz`, {
      hint: 'unpack it first; gzip and zstd are read as they are',
    });
  }
  const isGzip = magic.startsWith(GZIP_MAGIC);
  if (!isGzip && !magic.startsWith(ZSTD_MAGIC)) return packed;
  try {
    const chunks = unpack(packed, isGzip ? createGunzip() : createZstdDecompress(), input.location);
    return await spoolStream(chunks, input.temporaryDirectory, signal);
  } finally {
    await packed.file.close();
  }
}

async function openPacked(input: ArchiveInput, signal: AbortSignal | undefined): Promise<SpooledStream> {
  const { content, location } = input;
  if ('stream' in content) return spoolStream(content.stream(), input.temporaryDirectory, signal);
  const { path } = content;
  try {
    const found = await stat(path);
    if (found.isFile()) return { file: await RandomAccessFile.open(path, 'r'), sizeBytes: found.size };
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw toLatchkeyError(error);
    throw new LatchkeyError('STATE_NOT_FOUND', `${location} does not exist`, {
      hint: 'check the path of the archive',
    });
  }
  throw new LatchkeyError('INPUT_NOT_AN_IMAGE', `${location} is not a file`, {
    hint: 'an image layout in a directory is written oci:DIRECTORY',
  });
}

async function* unpack(
  { file, sizeBytes: packedBytes }: SpooledStream,
  unpacker: Transform,
  location: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  const maxBytes = Math.max(MIN_UNPACK_BYTES, packedBytes * MAX_UNPACK_RATIO);
  let sizeBytes = 0;
  try {
    const unpacked = pipeline(Readable.from(file.chunks(0, packedBytes)), unpacker, () => undefined);
    for await (const chunk of unpacked as AsyncIterable<Uint8Array>) {
      sizeBytes += chunk.length;
      if (sizeBytes > maxBytes) {
        throw new LatchkeyError('LIMIT_EXCEEDED', `${location} unpacks to more than ${maxBytes} bytes`, {
          hint: 'unpack it yourself if you trust where it comes from',
        });
      }
      yield chunk;
    }
  } catch (error) {
    if (error instanceof LatchkeyError) throw error;
    // zlib names what it stumbles over, Z_DATA_ERROR or ZSTD_error_..., and a stream that ends too early Z_BUF_ERROR.
    throw new LatchkeyError('INPUT_MALFORMED', `${location} cannot be unpacked: it is damaged or cut off`, {
      cause: error,
    });
  } finally {
    // What still reads must have ended before the file is closed.
    unpacker.destroy();
    await finished(unpacker).catch(() => undefined);
  }
}
