/** Standard input of a program that is answered while it runs: one line after the other, each when it is asked for. */
import { LatchkeyError } from '#src/base/errors.ts';

const NEWLINE = 0x0a;

export class InputLines {
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #maxBytes: number;
  #rest: Buffer = Buffer.alloc(0);

  /** @param maxBytes of a line */
  constructor(input: AsyncIterable<Buffer>, maxBytes: number) {
    this.#chunks = input[Symbol.asyncIterator]();
    this.#maxBytes = maxBytes;
  }

  /**
   * Reads a line, or what there is where the input ends.
   * @returns without its newline; empty once the input has ended
   * @throws LatchkeyError LIMIT_EXCEEDED
   */
  async next(): Promise<Buffer> {
    for (;;) {
      const end = this.#rest.indexOf(NEWLINE);
      if (end >= 0) {
        const line = this.#rest.subarray(0, end);
        this.#rest = this.#rest.subarray(end + 1);
        return line;
      }
      if (this.#rest.length > this.#maxBytes) {
        throw new LatchkeyError(
          'LIMIT_EXCEEDED',
          `a line of the input has more than ${this.#maxBytes} bytes`,
        );
      }
      const chunk = await this.#chunks.next();
      if (chunk.done === true) {
        const line = this.#rest;
        this.#rest = Buffer.alloc(0);
        return line;
      }
      this.#rest = Buffer.concat([this.#rest, chunk.value]);
    }
  }
}
