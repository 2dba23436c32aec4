/** A static ELF64 executable around machine code (System V ABI, chapter 4): header, one program header, the code. */
const LOAD_ADDRESS = 0x400000n;
/** The largest page there is on arm64; file offset and address have to agree modulo this. */
const ALIGNMENT = 0x10000n;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const TYPE_EXECUTABLE = 2;
const SEGMENT_LOAD = 1;
const READ_AND_EXECUTE = 5;

/**
 * Wraps code that begins with its entry.
 * @param elfMachine the architecture (e_machine)
 */
export function elfExecutable(code: Buffer, elfMachine: number): Buffer {
  const header = Buffer.alloc(ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES);
  const total = BigInt(header.length + code.length);
  Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]).copy(header); // ELF, 64 bit, little endian, version 1
  header.writeUInt16LE(TYPE_EXECUTABLE, 16);
  header.writeUInt16LE(elfMachine, 18);
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(LOAD_ADDRESS + BigInt(header.length), 24); // entry
  header.writeBigUInt64LE(BigInt(ELF_HEADER_BYTES), 32); // program headers
  header.writeUInt16LE(ELF_HEADER_BYTES, 52);
  header.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  header.writeUInt16LE(1, 56);
  const segment = header.subarray(ELF_HEADER_BYTES);
  segment.writeUInt32LE(SEGMENT_LOAD, 0);
  segment.writeUInt32LE(READ_AND_EXECUTE, 4);
  segment.writeBigUInt64LE(LOAD_ADDRESS, 16);
  segment.writeBigUInt64LE(LOAD_ADDRESS, 24);
  segment.writeBigUInt64LE(total, 32);
  segment.writeBigUInt64LE(total, 40);
  segment.writeBigUInt64LE(ALIGNMENT, 48);
  return Buffer.concat([header, code]);
}
