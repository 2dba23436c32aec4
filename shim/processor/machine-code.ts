/**
 * A small program as steps that name no architecture, and its assembly: code first, then the data its system calls
 * point to, with every reference filled in.
 */

/** `fork` is what the C library calls so; a kernel without that call has another for it. */
export type SystemCall =
  'close' | 'connect' | 'exit' | 'fork' | 'getpid' | 'nanosleep' | 'read' | 'send' | 'socket' | 'write';

/** A number; the kept result; the stack's address or its first byte; or the address of data. */
export type Argument = number | 'kept' | 'stack' | 'stack-byte' | Uint8Array;

export type Step =
  | { readonly do: 'call'; readonly name: SystemCall; readonly args: readonly Argument[] }
  /** Keeps the last call's result for the arguments of later ones. */
  | { readonly do: 'keep' }
  /** Puts the last call's result on the stack. */
  | { readonly do: 'push' }
  /** Goes on elsewhere, if the last call's result is so. */
  | { readonly do: 'jump'; readonly when: Condition; readonly to: string }
  | { readonly do: 'label'; readonly name: string };

export type Condition = 'negative' | 'zero' | 'not-one';

export interface Instruction {
  readonly bytes: readonly number[];
  /** The label or the data whose distance goes into the instruction. */
  readonly place?: string | Uint8Array;
}

/** What an architecture has to bring. */
export interface InstructionSet {
  /** Its number in the ELF header (e_machine). */
  readonly elfMachine: number;
  encode(step: Exclude<Step, { do: 'label' }>): Instruction[];
  /** Gives the instruction with the distance from its own start to its place in it. */
  withDistance(bytes: readonly number[], distanceBytes: number): readonly number[];
}

/** A system call as a step. */
export function call(name: SystemCall, ...args: Argument[]): Step {
  return { do: 'call', name, args };
}

/** The machine code of a program, position-independent. */
export function assemble(steps: readonly Step[], set: InstructionSet): Buffer {
  const code: (Instruction & { readonly at: number })[] = [];
  const places = new Map<string | Uint8Array, number>();
  let end = 0;
  for (const step of steps) {
    if (step.do === 'label') {
      places.set(step.name, end);
      continue;
    }
    for (const instruction of set.encode(step)) {
      code.push({ ...instruction, at: end });
      end += instruction.bytes.length;
    }
  }
  const data: Uint8Array[] = [];
  for (const { place } of code) {
    if (!(place instanceof Uint8Array) || places.has(place)) continue;
    places.set(place, end);
    data.push(place);
    end += place.length;
  }
  const bytes = code.flatMap(({ bytes, place, at }) => {
    if (place === undefined) return bytes;
    const target = places.get(place);
    if (target === undefined) throw new TypeError('a jump to a label that is not there');
    return set.withDistance(bytes, target - at);
  });
  return Buffer.concat([Buffer.from(bytes), ...data]);
}

/** A number as it stands in little-endian code. */
export function int32(value: number): number[] {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value | 0);
  return [...bytes];
}
