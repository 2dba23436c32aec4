/**
 * The process of a stream processor. Its id is the caller's word, and the kernel gives an id again once its process is gone:
 * hence a look at the program it runs and at when it was started.
 */
import { type Stats, readFileSync, statSync } from 'node:fs';
import { LatchkeyError } from '#src/base/errors.ts';

/** Place of the start time among the fields of /proc/PID/stat behind the name, which may hold anything. */
const START_TIME_FIELD = 19;

export interface ProcessorProcess {
  readonly id: number;
  /** In the kernel's own unit; with the id it is that of one process only. */
  readonly startedAt: string | undefined;
  /** The executable it runs. */
  readonly programPath: string;
}

/**
 * The process of an id, if it is a stream processor.
 * @param programPath the executable it must be
 * @throws LatchkeyError AUTH_FORBIDDEN when it is not
 */
export function findProcessor(processId: number, programPath: string): ProcessorProcess {
  const startedAt = startTimeOf(processId);
  if (!runsProgram(processId, programPath))
    throw new LatchkeyError('AUTH_FORBIDDEN', `process ${processId} is not the stream processor`);
  return { id: processId, startedAt, programPath };
}

/** True while the process exists and has not been reaped. */
export function isAlive({ id, startedAt }: ProcessorProcess): boolean {
  return startedAt !== undefined && startTimeOf(id) === startedAt;
}

/**
 * Kills it, unless it has ended meanwhile: another process with its id is left alone.
 * @returns whether it was killed
 */
export function killProcessor(processor: ProcessorProcess): boolean {
  if (!isAlive(processor) || !runsProgram(processor.id, processor.programPath)) return false;
  try {
    return process.kill(processor.id, 'SIGKILL');
  } catch {
    // It has ended this very moment.
    return false;
  }
}

/** Undefined for what is not there or may not be looked at. */
export function statusOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function runsProgram(processId: number, programPath: string): boolean {
  const [actual, expected] = [`/proc/${processId}/exe`, programPath].map(statusOf);
  return actual !== undefined && actual.ino === expected?.ino && actual.dev === expected.dev;
}

/** Undefined when there is no such process. */
function startTimeOf(processId: number): string | undefined {
  try {
    const status = readFileSync(`/proc/${processId}/stat`, 'latin1');
    return status.slice(status.lastIndexOf(')') + 2).split(' ')[START_TIME_FIELD];
  } catch {
    return undefined;
  }
}
