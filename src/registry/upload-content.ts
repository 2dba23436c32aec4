/** The content of a blob on its way to a registry, taken in pieces that follow each other or start again. */
import type { Descriptor } from '#src/oci/descriptor.ts';
import { verifiedStream } from '#src/store/verified-stream.ts';

export interface UploadContent {
  /**
   * The bytes from one offset up to another. Going on where the last range ended reads on; any other offset opens the
   * content anew, so that also what is only read over is verified.
   */
  range(start: number, end: number): AsyncGenerator<Uint8Array, void, undefined>;
  /** Why the content itself failed, when it did. */
  readonly failure: { readonly error: unknown } | undefined;
  /** Ends reading. */
  close(): Promise<void>;
}

/**
 * @param open gives the content from its start
 * @param onPosition called with how far it was read
 */
export function createUploadContent(
  descriptor: Descriptor,
  open: () => AsyncIterable<Uint8Array>,
  location: string,
  options: {
    readonly signal: AbortSignal | undefined;
    readonly onPosition: (position: number) => void;
  },
): UploadContent {
  let stream: AsyncGenerator<Uint8Array, void, undefined> | undefined;
  /** Of the next byte that was not given. */
  let position = 0;
  let rest: Uint8Array = new Uint8Array();
  let failure: { readonly error: unknown } | undefined;
  let turns = 0;
  /** The range that is being read; 0 when none is. */
  let reading = 0;

  async function close(): Promise<void> {
    await stream?.return();
    stream = undefined;
    position = 0;
    rest = new Uint8Array();
  }

  async function next(maxBytes: number): Promise<Uint8Array | undefined> {
    if (rest.length === 0) {
      stream ??= verifiedStream(open(), descriptor, location, { signal: options.signal });
      const { value } = await stream.next();
      if (value === undefined) return undefined;
      rest = value;
    }
    const bytes = rest.subarray(0, maxBytes);
    rest = rest.subarray(bytes.length);
    position += bytes.length;
    return bytes;
  }

  return {
    async *range(start, end) {
      const turn = (turns += 1);
      try {
        // A request that was cut may still wait for its next bytes; they must not get lost between the two.
        const isBusy = reading !== 0;
        reading = turn;
        if (isBusy || position > start) await close();
        while (position < end) {
          const skips = position < start;
          const bytes = await next((skips ? start : end) - position);
          if (bytes === undefined || reading !== turn) return;
          if (skips) continue;
          yield bytes;
          options.onPosition(position);
        }
      } catch (error) {
        failure = { error };
        throw error;
      } finally {
        if (reading === turn) reading = 0;
      }
    },
    get failure() {
      return failure;
    },
    close,
  };
}
