/** The WWW-Authenticate header (RFC 9110 section 11.6.1): one or more challenges in one comma-separated line. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_CHALLENGE_CHARACTERS } from '#src/base/limits.ts';

export interface Challenge {
  /** Lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** Names in lower case; the first of equal names counts. */
  readonly parameters: ReadonlyMap<string, string>;
}

const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y;
const PARAMETER =
  /([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~0-9A-Za-z:/-]+))/sy;
const SEPARATOR = /[ \t,]*/y;

/**
 * Parses the header; several header lines joined by a comma are the same as one.
 * @throws LatchkeyError NET_REGISTRY when it does not follow the grammar
 */
export function parseChallenges(header: string): Challenge[] {
  if (header.length > MAX_CHALLENGE_CHARACTERS) throw unreadable();
  const challenges: Challenge[] = [];
  let position = skip(SEPARATOR, header, 0);
  while (position < header.length) {
    const scheme = match(TOKEN, header, position);
    if (scheme === undefined) throw unreadable();
    const parameters = new Map<string, string>();
    position = readParameters(header, position + scheme[0].length, parameters);
    challenges.push({ scheme: scheme[0].toLowerCase(), parameters });
  }
  return challenges;
}

/** Reads until the next word without "=", which is the scheme of the next challenge; gives its position. */
function readParameters(header: string, start: number, parameters: Map<string, string>): number {
  let position = skip(SEPARATOR, header, start);
  if (
    position > start &&
    match(PARAMETER, header, position) === undefined &&
    !header.slice(start, position).includes(',')
  ) {
    // Schemes such as Negotiate carry one opaque value instead of parameters.
    const opaque = match(TOKEN68, header, position);
    if (opaque !== undefined) return skip(SEPARATOR, header, position + opaque[0].length);
  }
  for (;;) {
    const parameter = match(PARAMETER, header, position);
    if (parameter === undefined) return position;
    const name = (parameter[1] ?? '').toLowerCase();
    const value = parameter[2]?.replace(/\\(.)/gs, '$1') ?? parameter[3] ?? '';
    if (!parameters.has(name)) parameters.set(name, value);
    position = skip(SEPARATOR, header, position + parameter[0].length);
  }
}

function match(pattern: RegExp, text: string, position: number): RegExpExecArray | undefined {
  pattern.lastIndex = position;
  return pattern.exec(text) ?? undefined;
}

function skip(pattern: RegExp, text: string, position: number): number {
  return position + (match(pattern, text, position)?.[0].length ?? 0);
}

function unreadable(): LatchkeyError {
  return new LatchkeyError('NET_REGISTRY', 'the registry sent an unreadable WWW-Authenticate header');
}
