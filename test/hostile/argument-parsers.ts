/** Parsers of what administrators type: spans, versions and lines of text. */
import { InvalidArgumentError } from 'commander';
import { parseContact, parseReason } from '../../cli/name-arguments.ts';
import { parseVersionRange } from '../../cli/term-arguments.ts';
import { parseApiTokenLife, parseJoinTokenLife } from '../../cli/time-arguments.ts';
import { type HostileParser, textParser } from './hostile-parser.ts';

const argument = { raises: InvalidArgumentError, isTyped: true } as const;

export const ARGUMENT_PARSERS: readonly HostileParser[] = [
  textParser('cli/time-arguments.ts', 'parseJoinTokenLife', ['7d'], parseJoinTokenLife, argument),
  textParser('cli/time-arguments.ts', 'parseApiTokenLife', ['90d'], parseApiTokenLife, argument),
  textParser('cli/term-arguments.ts', 'parseVersionRange', ['>=1.4 <3'], parseVersionRange, argument),
  textParser('cli/name-arguments.ts', 'parseContact', ['help@acme.example'], parseContact, argument),
  textParser('cli/name-arguments.ts', 'parseReason', ['invoice 17 is open'], parseReason, argument),
];
