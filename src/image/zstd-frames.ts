/**
 * Where frames end in a zstd stream (RFC 8878, section 3.1). Node's decoder loses what follows the end of a frame in
 * the same write, so it is given frames one by one.
 */
import { LatchkeyError } from '#src/base/errors.ts';

const FRAME_MAGIC = 0xfd2fb528;
/** Sixteen magic numbers mark frames that decoders skip (section 3.1.2). */
const FIRST_SKIPPABLE_MAGIC = 0x184d2a50;
const LAST_SKIPPABLE_MAGIC = 0x184d2a5f;
const CHECKSUM_BYTES = 4;
/** Bytes of the dictionary ID and of the content size, by their flags (sections 3.1.1.1.1.3 and 3.1.1.1.1.1). */
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

/** The parts that say how long the next ones are, with their lengths. */
const PART_BYTES = { magic: 4, 'skippable size': 4, descriptor: 1, 'block header': 3 } as const;

export class ZstdFrameSplitter {
  readonly #part = Buffer.alloc(4);
  #partBytes = 0;
  #partName: keyof typeof PART_BYTES = 'magic';
  /** Bytes before the next part. */
  #passedBytes = 0;
  /** Whether the frame ends with them. */
  #isLast = false;
  #hasChecksum = false;

  /** True between two frames. */
  get isBetweenFrames(): boolean {
    return this.#partName === 'magic' && this.#partBytes === 0;
  }

  /**
   * Cuts the next bytes at the ends of frames.
   * @throws LatchkeyError INPUT_MALFORMED
   */
  *split(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
    let start = 0;
    let position = 0;
    while (position < bytes.length) {
      position +=
        this.#passedBytes > 0 ? this.#pass(bytes.length - position) : this.#collect(bytes, position);
      if (!this.#isLast || this.#passedBytes > 0) continue;
      this.#isLast = false;
      this.#expect('magic');
      yield bytes.subarray(start, position);
      start = position;
    }
    if (start < bytes.length) yield bytes.subarray(start);
  }

  #pass(availableBytes: number): number {
    const passed = Math.min(this.#passedBytes, availableBytes);
    this.#passedBytes -= passed;
    return passed;
  }

  #collect(bytes: Uint8Array, position: number): number {
    const wanted = PART_BYTES[this.#partName] - this.#partBytes;
    const taken = bytes.subarray(position, position + wanted);
    this.#part.set(taken, this.#partBytes);
    this.#partBytes += taken.length;
    if (taken.length === wanted) this.#understand();
    return taken.length;
  }

  #expect(name: keyof typeof PART_BYTES): void {
    this.#partName = name;
    this.#partBytes = 0;
  }

  #understand(): void {
    switch (this.#partName) {
      case 'magic':
        this.#expect(kindOfFrame(this.#part.readUInt32LE(0)));
        break;
      case 'skippable size':
        this.#passedBytes = this.#part.readUInt32LE(0);
        this.#isLast = true;
        break;
      case 'descriptor':
        this.#readDescriptor(this.#part.readUInt8(0));
        this.#expect('block header');
        break;
      case 'block header':
        this.#readBlockHeader(this.#part.readUIntLE(0, PART_BYTES['block header']));
        this.#expect('block header');
        break;
    }
  }

  /** Section 3.1.1.1.1: window, dictionary ID and content size follow, as far as the flags say so. */
  #readDescriptor(descriptor: number): void {
    const isSingleSegment = ((descriptor >> 5) & 1) === 1;
    const contentSizeFlag = (descriptor >> 6) & 3;
    const contentSizeBytes =
      contentSizeFlag === 0 && isSingleSegment ? 1 : (CONTENT_SIZE_BYTES[contentSizeFlag] ?? 0);
    const windowBytes = isSingleSegment ? 0 : 1;
    this.#hasChecksum = ((descriptor >> 2) & 1) === 1;
    this.#passedBytes = windowBytes + (DICTIONARY_ID_BYTES[descriptor & 3] ?? 0) + contentSizeBytes;
  }

  /** Section 3.1.1.2. */
  #readBlockHeader(header: number): void {
    const type = (header >> 1) & 3;
    if (type === RESERVED_BLOCK) throw malformed('it has a block of the reserved type');
    this.#isLast = (header & 1) === 1;
    this.#passedBytes =
      (type === RLE_BLOCK ? 1 : header >> 3) + (this.#isLast && this.#hasChecksum ? CHECKSUM_BYTES : 0);
  }
}

function kindOfFrame(magic: number): 'descriptor' | 'skippable size' {
  if (magic === FRAME_MAGIC) return 'descriptor';
  if (magic >= FIRST_SKIPPABLE_MAGIC && magic <= LAST_SKIPPABLE_MAGIC) return 'skippable size';
  throw malformed('what should be a frame does not begin like one');
}

function malformed(reason: string): LatchkeyError {
  return new LatchkeyError('INPUT_MALFORMED', `the layer is not a whole zstd stream (${reason})`, {
    hint: 'the image is damaged, or its media type names another compression; build it again',
  });
}
