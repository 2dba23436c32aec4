/**
 * The stream processor as the kernel runs it: an executable of a few hundred bytes without a runtime, because
 * containerd starts one per layer and even an empty Node costs 25 ms. It tells the agent its process id over a
 * unix socket, waits for one byte and exits with it; the agent does the work on this process's own file
 * descriptors. When there is no agent it says so and fails, and a child keeps stdout open for a moment: containerd
 * drops the message of a processor whose output ends before its exit status is known (containerd#6914).
 *
 * Layout: ELF64 header, one program header (read and execute), code, data (System V ABI; x86-64 system calls).
 */
import { LatchkeyError } from '#src/base/errors.ts';

/** sun_path (unix(7)); one byte is the closing zero. */
const MAX_SOCKET_PATH_BYTES = 107;
const LOAD_ADDRESS = 0x400000n;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
/** How long stdout outlives a failed processor. */
const HOLD_OUTPUT_NS = 300_000_000;

const AF_UNIX = 1;
const SOCK_STREAM = 1;
/** An agent that hangs up would otherwise end the processor with SIGPIPE, before it can say why. */
const MSG_NOSIGNAL = 0x4000;
const SYSTEM_CALL = {
  read: 0,
  write: 1,
  close: 3,
  nanosleep: 35,
  getpid: 39,
  socket: 41,
  connect: 42,
  sendto: 44,
  fork: 57,
  exitGroup: 231,
} as const;

/**
 * The processor for an agent's socket.
 * @param socketPath absolute path of the agent's processor socket
 * @returns the bytes of an x86-64 Linux executable
 * @throws LatchkeyError CONFIG_INVALID for a path that does not fit a socket address
 */
export function processorProgram(socketPath: string): Buffer {
  const path = Buffer.from(socketPath);
  if (path.length > MAX_SOCKET_PATH_BYTES || !socketPath.startsWith('/') || path.includes(0)) {
    throw new LatchkeyError('CONFIG_INVALID', `not usable as a socket path: ${socketPath}`, {
      hint: `choose an absolute path of at most ${MAX_SOCKET_PATH_BYTES} bytes`,
    });
  }
  const message = Buffer.from(
    `latchkey: NET_UNREACHABLE: the node agent does not answer at ${socketPath}; start it with 'latchkey node run'\n`,
  );
  const code = new Code();
  const address = code.data(Buffer.concat([Buffer.from([AF_UNIX, 0]), path, Buffer.of(0)]));
  const text = code.data(message);
  const pause = code.data(timespec(HOLD_OUTPUT_NS));

  code.call(SYSTEM_CALL.socket, AF_UNIX, SOCK_STREAM, 0);
  code.jumpIfNegative('fail');
  code.keepResult();
  code.call(SYSTEM_CALL.connect, 'kept', address, path.length + 3);
  code.jumpIfNegative('fail');
  code.call(SYSTEM_CALL.getpid);
  code.pushResult();
  code.flags(MSG_NOSIGNAL);
  code.call(SYSTEM_CALL.sendto, 'kept', 'stack', 4);
  code.call(SYSTEM_CALL.read, 'kept', 'stack', 1);
  code.jumpUnlessOne('fail');
  code.exitWithStackByte();
  code.label('fail');
  code.call(SYSTEM_CALL.write, 2, text, message.length);
  code.call(SYSTEM_CALL.fork);
  code.jumpIfZero('hold');
  code.call(SYSTEM_CALL.exitGroup, 1);
  code.label('hold');
  for (const descriptor of [0, 2, 3]) code.call(SYSTEM_CALL.close, descriptor);
  code.call(SYSTEM_CALL.nanosleep, pause, 0);
  code.call(SYSTEM_CALL.exitGroup, 0);
  return executable(code.assemble());
}

function timespec(nanoseconds: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigInt64LE(BigInt(nanoseconds), 8);
  return bytes;
}

/** Where a piece of data is, from the start of the data. */
interface DataReference {
  readonly dataOffset: number;
}

type Argument = number | 'kept' | 'stack' | DataReference;

/** The few x86-64 instructions that are needed; each method names what it does, the bytes stand beside it. */
class Code {
  readonly #code: number[] = [];
  readonly #data: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #fixups: { readonly at: number; readonly target: string | DataReference }[] = [];

  data(bytes: Uint8Array): DataReference {
    const reference = { dataOffset: this.#data.length };
    this.#data.push(...bytes);
    return reference;
  }

  label(name: string): void {
    this.#labels.set(name, this.#code.length);
  }

  /** System call: number in eax; arguments in rdi, rsi, rdx. The result is in eax. */
  call(number: number, first?: Argument, second?: Argument, third?: Argument): void {
    this.#load(first, {
      immediate: [0xbf],
      kept: [0x89, 0xdf],
      stack: [0x48, 0x89, 0xe7],
      address: [0x48, 0x8d, 0x3d],
    });
    this.#load(second, {
      immediate: [0xbe],
      kept: [0x89, 0xde],
      stack: [0x48, 0x89, 0xe6],
      address: [0x48, 0x8d, 0x35],
    });
    this.#load(third, {
      immediate: [0xba],
      kept: [0x89, 0xda],
      stack: [0x48, 0x89, 0xe2],
      address: [0x48, 0x8d, 0x15],
    });
    this.#emit(0xb8, ...int32(number)); // mov eax, number
    this.#emit(0x0f, 0x05); // syscall
  }

  /** The fourth argument of the next call; the fifth and sixth become null. */
  flags(value: number): void {
    this.#emit(0x41, 0xba, ...int32(value)); // mov r10d, value
    this.#emit(0x45, 0x31, 0xc0, 0x45, 0x31, 0xc9); // xor r8d, r8d; xor r9d, r9d
  }

  /** Keeps the result in ebx, which system calls leave alone. */
  keepResult(): void {
    this.#emit(0x89, 0xc3); // mov ebx, eax
  }

  pushResult(): void {
    this.#emit(0x50); // push rax
  }

  jumpIfNegative(target: string): void {
    this.#emit(0x85, 0xc0, 0x0f, 0x88); // test eax, eax; js
    this.#reference(target);
  }

  jumpIfZero(target: string): void {
    this.#emit(0x85, 0xc0, 0x0f, 0x84); // test eax, eax; jz
    this.#reference(target);
  }

  jumpUnlessOne(target: string): void {
    this.#emit(0x83, 0xf8, 0x01, 0x0f, 0x85); // cmp eax, 1; jne
    this.#reference(target);
  }

  exitWithStackByte(): void {
    this.#emit(0x0f, 0xb6, 0x3c, 0x24); // movzx edi, byte [rsp]
    this.#emit(0xb8, ...int32(SYSTEM_CALL.exitGroup), 0x0f, 0x05);
  }

  /** Code followed by data, with every reference resolved relative to the instruction after it. */
  assemble(): Buffer {
    const bytes = Buffer.from([...this.#code, ...this.#data]);
    for (const { at, target } of this.#fixups) {
      const position =
        typeof target === 'string' ? this.#labels.get(target) : this.#code.length + target.dataOffset;
      if (position === undefined) throw new TypeError('a jump to a label that is not there');
      bytes.writeInt32LE(position - (at + 4), at);
    }
    return bytes;
  }

  #load(
    argument: Argument | undefined,
    encoding: Readonly<Record<'immediate' | 'kept' | 'stack' | 'address', number[]>>,
  ): void {
    if (argument === undefined) return;
    if (typeof argument === 'number') this.#emit(...encoding.immediate, ...int32(argument));
    else if (typeof argument === 'string') this.#emit(...encoding[argument]);
    else {
      this.#emit(...encoding.address); // lea register, [rip + offset]
      this.#reference(argument);
    }
  }

  #reference(target: string | DataReference): void {
    this.#fixups.push({ at: this.#code.length, target });
    this.#emit(0, 0, 0, 0);
  }

  #emit(...bytes: number[]): void {
    this.#code.push(...bytes);
  }
}

function int32(value: number): number[] {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return [...bytes];
}

/** Wraps code into a static ELF64 executable (System V ABI, chapter 4). */
function executable(code: Buffer): Buffer {
  const header = Buffer.alloc(ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES);
  const total = BigInt(header.length + code.length);
  Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]).copy(header); // ELF, 64 bit, little endian, version 1
  header.writeUInt16LE(2, 16); // executable
  header.writeUInt16LE(62, 18); // x86-64
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(LOAD_ADDRESS + BigInt(header.length), 24); // entry
  header.writeBigUInt64LE(BigInt(ELF_HEADER_BYTES), 32); // program headers
  header.writeUInt16LE(ELF_HEADER_BYTES, 52);
  header.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  header.writeUInt16LE(1, 56);
  const segment = header.subarray(ELF_HEADER_BYTES);
  segment.writeUInt32LE(1, 0); // load
  segment.writeUInt32LE(5, 4); // read, execute
  segment.writeBigUInt64LE(LOAD_ADDRESS, 16);
  segment.writeBigUInt64LE(LOAD_ADDRESS, 24);
  segment.writeBigUInt64LE(total, 32);
  segment.writeBigUInt64LE(total, 40);
  segment.writeBigUInt64LE(0x1000n, 48); // alignment
  return Buffer.concat([header, code]);
}
