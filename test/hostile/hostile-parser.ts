/** What the hostile tests know of a parser. */

export interface HostileParser {
  /** Where it is, from the root of the project, and its name there. */
  readonly file: string;
  readonly name: string;
  /** Well-formed input, which it reads without an error. */
  readonly valid: readonly (Uint8Array | string)[];
  /** Reads any input; text is given to parsers that take text. */
  readonly read: (input: never) => unknown;
  /** Class of the errors it raises where they are not LatchkeyErrors: commander's own for an argument. */
  readonly raises?: abstract new (...args: never[]) => Error;
  /** False where another parser's arbitrary input costs an asymmetric operation each; fewer runs then. */
  readonly isSlow?: boolean;
  /** True for what a person has typed or set up, who may be told it in full. */
  readonly isTyped?: boolean;
}

/** A parser of bytes. */
export function bytesParser(
  file: string,
  name: string,
  valid: readonly Uint8Array[],
  read: (input: Uint8Array) => unknown,
  options: Pick<HostileParser, 'isSlow' | 'isTyped' | 'raises'> = {},
): HostileParser {
  return { file, name, valid, read, ...options };
}

/** A parser of text. */
export function textParser(
  file: string,
  name: string,
  valid: readonly string[],
  read: (input: string) => unknown,
  options: Pick<HostileParser, 'raises' | 'isTyped'> = {},
): HostileParser {
  return { file, name, valid, read, ...options };
}

/** JSON as bytes. */
export function json(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}
