/** How commands that list say which part of a list they want; the same for all of them. */
import { type Command, InvalidArgumentError } from 'commander';
import { parseInstant } from './time-arguments.ts';

export interface ListOptions {
  readonly newestFirst?: boolean;
  readonly limit?: number;
  readonly createdFrom?: number;
  readonly createdUntil?: number;
}

/** Declares `--newest-first`, `--limit`, `--created-from` and `--created-until`. */
export function withListOptions(command: Command): Command {
  return command
    .option('--newest-first', 'the newest first (default: the oldest)')
    .option('--limit <count>', 'no more than these (default: all)', parseLimit)
    .option('--created-from <time>', 'created at this time or later', parseInstant)
    .option('--created-until <time>', 'created before this time', parseInstant);
}

/** The options as the admin API takes them. */
export function listFilter({ newestFirst, limit, createdFrom, createdUntil }: ListOptions) {
  const order: 'asc' | 'desc' = newestFirst === true ? 'desc' : 'asc';
  return { order, limit, createdFromMs: createdFrom, createdUntilMs: createdUntil };
}

/** Reads how many a list may hold. */
export function parseLimit(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Give a whole number from 1.');
}
