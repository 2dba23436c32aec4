/**
 * The few AArch64 instructions that the processor needs. A call's number goes into x8, its arguments into x0 to x5; its
 * result comes in x0 (Linux, arch/arm64/kernel/entry.S). Results are kept in x19, which calls leave alone. Encodings: Arm
 * Architecture Reference Manual, C6.2.
 */
import {
  type Argument,
  type Condition,
  type Instruction,
  type InstructionSet,
  type SystemCall,
  int32,
} from './machine-code.ts';

/** include/uapi/asm-generic/unistd.h in Linux. There is no fork: a plain clone is one. */
const NUMBERS: Readonly<Record<SystemCall, number>> = {
  close: 57,
  read: 63,
  write: 64,
  exit: 94,
  nanosleep: 101,
  getpid: 172,
  socket: 198,
  connect: 203,
  send: 206,
  fork: 220,
};

/** What the parent of a clone is told when it ends; without other flags, all the rest of clone's arguments is zero. */
const SIGCHLD = 17;
const CLONE_AS_FORK: readonly Argument[] = [SIGCHLD, 0, 0, 0, 0];

const NUMBER_REGISTER = 8;
const KEPT_REGISTER = 19;
const MAX_ARGUMENTS = 6;

const ADR = 0x1000_0000;
const ADR_MASK = 0x9f00_0000;
/** The distance of a conditional branch: 19 bits, in words. */
const BRANCH_DISTANCE_MASK = 0x7_ffff;

export const AARCH64: InstructionSet = {
  elfMachine: 183,
  encode(step) {
    switch (step.do) {
      case 'call': {
        const args = step.name === 'fork' ? CLONE_AS_FORK : step.args;
        if (args.length > MAX_ARGUMENTS) throw new TypeError('a system call has at most six arguments');
        return [
          ...args.flatMap((argument, register) => load(register, argument)),
          ...load(NUMBER_REGISTER, NUMBERS[step.name]),
          word(0xd400_0001), // svc #0
        ];
      }
      case 'keep':
        return [word(0x2a00_03e0 | KEPT_REGISTER)]; // mov w19, w0
      case 'push':
        return [word(0xf81f_0fe0)]; // str x0, [sp, #-16]!
      case 'jump':
        return jump(step.when, step.to);
    }
  },
  withDistance(bytes, distance) {
    const instruction = Buffer.from(bytes).readUInt32LE();
    if ((instruction & ADR_MASK) >>> 0 === ADR) {
      const low = (distance & 0b11) << 29;
      return int32(instruction | low | (((distance >> 2) & BRANCH_DISTANCE_MASK) << 5));
    }
    return int32(instruction | (((distance >> 2) & BRANCH_DISTANCE_MASK) << 5));
  },
};

function load(register: number, argument: Argument): Instruction[] {
  if (typeof argument === 'number') {
    const low = word(0x5280_0000 | ((argument & 0xffff) << 5) | register); // movz register, low half
    const high = (argument >>> 16) & 0xffff;
    return high === 0 ? [low] : [low, word(0x72a0_0000 | (high << 5) | register)]; // movk register, high half
  }
  if (argument === 'kept') return [word(0x2a00_03e0 | (KEPT_REGISTER << 16) | register)]; // mov register, w19
  if (argument === 'stack') return [word(0x9100_03e0 | register)]; // mov register, sp
  if (argument === 'stack-byte') return [word(0x3940_03e0 | register)]; // ldrb register, [sp]
  return [{ ...word(ADR | register), place: argument }]; // adr register, distance
}

function jump(when: Condition, to: string): Instruction[] {
  const compared = when === 'not-one' ? 1 : 0;
  const condition = { negative: 0x4, zero: 0x0, 'not-one': 0x1 }[when]; // mi, eq, ne
  return [
    word(0x7100_001f | (compared << 10)), // cmp w0, #compared
    { ...word(0x5400_0000 | condition), place: to }, // b.condition
  ];
}

function word(value: number): Instruction {
  return { bytes: int32(value) };
}
