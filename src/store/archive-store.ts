/** What an archive adds to a store: it is written in one go at the end, and holds files open until then. */
import type { BlobStore } from './blob-store.ts';

/** The process's own streams, for archives that are piped. */
export interface StandardStreams {
  readonly input: () => AsyncIterable<Uint8Array>;
  readonly output: NodeJS.WritableStream;
}

export interface ArchiveOptions {
  /** Where copies of streamed and compressed archives go; on a disk, as they may be large. */
  readonly temporaryDirectory: string;
  readonly streams: StandardStreams;
}

export interface ArchiveStore extends BlobStore {
  /**
   * Writes the archive; before it, nothing of what was stored can be seen. Without anything stored it does nothing.
   * @throws LatchkeyError STORAGE_FULL, STORAGE_FAILED, INTERRUPTED
   */
  finish(signal?: AbortSignal): Promise<void>;
  /** Closes what was opened and removes what was not finished. */
  discard(): Promise<void>;
}
