/**
 * The stream processor as the kernel runs it: an executable of a few hundred bytes without a runtime, because
 * containerd starts one per layer and even an empty Node costs 25 ms. It tells the agent its process id over a
 * unix socket, waits for one byte and exits with it; the agent does the work on this process's own file
 * descriptors. When there is no agent it says so and fails, and a child keeps stdout open for a moment: containerd
 * drops the message of a processor whose output ends before its exit status is known (containerd#6914).
 */
import { AARCH64 } from './aarch64.ts';
import { elfExecutable } from './elf.ts';
import { type InstructionSet, type Step, assemble, call } from './machine-code.ts';
import { HOLD_OUTPUT_MS, requireSocketPath, unansweredMessage } from './socket-path.ts';
import { X86_64 } from './x86-64.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
/** An agent that hangs up would otherwise end the processor with SIGPIPE, before it can say why. */
const MSG_NOSIGNAL = 0x4000;
const PROCESS_ID_BYTES = 4;
const STANDARD_ERROR = 2;
const ALL_BUT_OUTPUT = [0, 2, 3];
const NANOSECONDS_PER_MS = 1_000_000n;

/** By the names that Node gives architectures. */
const INSTRUCTION_SETS = { x64: X86_64, arm64: AARCH64 } satisfies Record<string, InstructionSet>;

export type NativeArchitecture = keyof typeof INSTRUCTION_SETS;

/** @param architecture as in `process.arch` */
export function hasNativeProcessor(architecture: string): architecture is NativeArchitecture {
  return Object.hasOwn(INSTRUCTION_SETS, architecture);
}

/**
 * The processor for an agent's socket.
 * @param socketPath absolute path of the agent's processor socket
 * @returns the bytes of a Linux executable
 * @throws LatchkeyError CONFIG_INVALID for a path that does not fit a socket address
 */
export function processorProgram(socketPath: string, architecture: NativeArchitecture): Buffer {
  requireSocketPath(socketPath);
  const set = INSTRUCTION_SETS[architecture];
  return elfExecutable(assemble(steps(socketPath), set), set.elfMachine);
}

function steps(socketPath: string): Step[] {
  const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(`${socketPath}\0`)]);
  const message = Buffer.from(unansweredMessage(socketPath));
  return [
    call('socket', AF_UNIX, SOCK_STREAM, 0),
    { do: 'jump', when: 'negative', to: 'fail' },
    { do: 'keep' },
    call('connect', 'kept', address, address.length),
    { do: 'jump', when: 'negative', to: 'fail' },
    call('getpid'),
    { do: 'push' },
    call('send', 'kept', 'stack', PROCESS_ID_BYTES, MSG_NOSIGNAL, 0, 0),
    call('read', 'kept', 'stack', 1),
    { do: 'jump', when: 'not-one', to: 'fail' },
    call('exit', 'stack-byte'),
    { do: 'label', name: 'fail' },
    call('write', STANDARD_ERROR, message, message.length),
    call('fork'),
    { do: 'jump', when: 'zero', to: 'hold' },
    call('exit', 1),
    { do: 'label', name: 'hold' },
    ...ALL_BUT_OUTPUT.map((descriptor) => call('close', descriptor)),
    call('nanosleep', timespec(BigInt(HOLD_OUTPUT_MS)), 0),
    call('exit', 0),
  ];
}

function timespec(milliseconds: bigint): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigInt64LE(milliseconds * NANOSECONDS_PER_MS, 8);
  return bytes;
}
