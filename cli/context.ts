/** What the world gives a command; passed in, so that a command can be run by a test without a process. */
import type { Clock } from '#src/base/clock.ts';
import type { HostLimit } from '#src/registry/host-limit.ts';

/** The part of a standard stream that commands use. */
export interface TextSink {
  write(text: string): unknown;
  /** True on a terminal: bars and colours make sense. */
  readonly isTTY?: boolean | undefined;
  /** Width of the terminal in characters. */
  readonly columns?: number | undefined;
}

/** Standard input and output for archives that are piped. */
export interface CommandPipes {
  input(): AsyncIterable<Uint8Array>;
  /** Gives standard output to an archive: from now on what is meant for people goes to standard error. */
  claimOutput(): void;
  readonly output: NodeJS.WritableStream;
}

export interface CommandContext {
  /** Results only, so that pipes stay clean. */
  readonly stdout: TextSink;
  /** Everything that is said along the way: progress, notes, errors. */
  readonly stderr: TextSink;
  /** Left out where there is nothing to pipe. */
  readonly pipes?: CommandPipes | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** Of requests to registries, for all images that the command opens. */
  readonly hostLimit: HostLimit;
  /** Aborted on SIGINT or SIGTERM; commands end cleanly and leave nothing half-written. */
  readonly signal: AbortSignal;
}

/** A variable that is set to nothing counts as one that is not set, as a pipeline without the secret leaves it. */
export function variable({ env }: Pick<CommandContext, 'env'>, name: string): string | undefined {
  return env[name] === '' ? undefined : env[name];
}

/** What a program of somebody else is started with: the token of the admin API is none of its business. */
export function childEnvironment({ env }: Pick<CommandContext, 'env'>): NodeJS.ProcessEnv {
  return { ...env, LATCHKEY_TOKEN: undefined, NODE_COMPILE_CACHE: undefined };
}
