/**
 * The few x86-64 instructions that the processor needs. A call's number goes into eax, its arguments into rdi, rsi, rdx,
 * r10, r8, r9; its result comes in eax (System V ABI, AMD64 supplement, A.2). Results are kept in ebx, which calls leave
 * alone.
 */
import {
  type Argument,
  type Condition,
  type Instruction,
  type InstructionSet,
  type SystemCall,
  int32,
} from './machine-code.ts';

/** arch/x86/entry/syscalls/syscall_64.tbl in Linux. */
const NUMBERS: Readonly<Record<SystemCall, number>> = {
  read: 0,
  write: 1,
  close: 3,
  nanosleep: 35,
  getpid: 39,
  socket: 41,
  connect: 42,
  send: 44,
  fork: 57,
  exit: 231,
};

/** rdi, rsi, rdx, r10, r8, r9 as their numbers in an instruction; from 8 on they need a prefix. */
const ARGUMENT_REGISTERS = [7, 6, 2, 10, 8, 9];

export const X86_64: InstructionSet = {
  elfMachine: 62,
  encode(step) {
    switch (step.do) {
      case 'call':
        return [
          ...step.args.map((argument, position) => load(ARGUMENT_REGISTERS[position], argument)),
          { bytes: [0xb8, ...int32(NUMBERS[step.name])] }, // mov eax, number
          { bytes: [0x0f, 0x05] }, // syscall
        ];
      case 'keep':
        return [{ bytes: [0x89, 0xc3] }]; // mov ebx, eax
      case 'push':
        return [{ bytes: [0x50] }]; // push rax
      case 'jump':
        return jump(step.when, step.to);
    }
  },
  /** Distances are the last four bytes, and count from the end of the instruction. */
  withDistance: (bytes, distance) => [...bytes.slice(0, -4), ...int32(distance - bytes.length)],
};

function load(register: number | undefined, argument: Argument): Instruction {
  if (register === undefined) throw new TypeError('a system call has at most six arguments');
  if (typeof argument === 'number') {
    const prefix = register > 7 ? [0x41] : [];
    return { bytes: [...prefix, 0xb8 + (register & 7), ...int32(argument)] }; // mov register, number
  }
  if (register > 7) throw new TypeError('only the first three arguments may be other than numbers');
  if (argument === 'kept') return { bytes: [0x89, 0xd8 | register] }; // mov register, ebx
  if (argument === 'stack') return { bytes: [0x48, 0x89, 0xe0 | register] }; // mov register, rsp
  if (argument === 'stack-byte') return { bytes: [0x0f, 0xb6, 0x04 | (register << 3), 0x24] }; // movzx register, [rsp]
  return { bytes: [0x48, 0x8d, 0x05 | (register << 3), ...int32(0)], place: argument }; // lea register, [rip + distance]
}

function jump(when: Condition, to: string): Instruction[] {
  const test = when === 'not-one' ? [0x83, 0xf8, 0x01] : [0x85, 0xc0]; // cmp eax, 1; test eax, eax
  const opcode = { negative: 0x88, zero: 0x84, 'not-one': 0x85 }[when]; // js, jz, jne
  return [{ bytes: test }, { bytes: [0x0f, opcode, ...int32(0)], place: to }];
}
