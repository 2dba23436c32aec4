/** Parsers of the terms of licenses and policies, as people type them. */
import { InvalidArgumentError } from 'commander';
import {
  parseGrace,
  parseOfflineMax,
  parseRenewAfter,
  parseRenewal,
  parseSeatLimit,
  parseTermDuration,
} from '../../cli/term-arguments.ts';
import { parseConnectivityGrace } from '../../cli/time-arguments.ts';
import { type HostileParser, textParser } from './hostile-parser.ts';

const TERMS = 'cli/term-arguments.ts';
const argument = { raises: InvalidArgumentError, isTyped: true } as const;

export const TERM_PARSERS: readonly HostileParser[] = [
  textParser(TERMS, 'parseSeatLimit', ['3', 'unlimited'], parseSeatLimit, argument),
  textParser(TERMS, 'parseTermDuration', ['365d', 'unlimited'], parseTermDuration, argument),
  textParser(TERMS, 'parseGrace', ['14d'], parseGrace, argument),
  textParser(TERMS, 'parseRenewal', ['365d'], parseRenewal, argument),
  textParser(TERMS, 'parseRenewAfter', ['50%', '50'], parseRenewAfter, argument),
  textParser(TERMS, 'parseOfflineMax', ['30d', '0s', 'unlimited'], parseOfflineMax, argument),
  textParser('cli/time-arguments.ts', 'parseConnectivityGrace', ['3d'], parseConnectivityGrace, argument),
];
