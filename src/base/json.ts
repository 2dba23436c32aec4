/**
 * JSON from outside. `JSON.parse` keeps the last of two equal keys, so two readers can disagree about what a
 * signed or hashed document says; here duplicate keys, prototype keys and deep nesting are refused.
 */
import { LatchkeyError } from './errors.ts';
import { MAX_JSON_VALUES } from './limits.ts';

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/** OCI documents nest five deep; more is an attack on the stack. */
const MAX_DEPTH = 32;
/** A key is repeated in a message as far as this. */
const MAX_SHOWN_CHARACTERS = 200;

/**
 * Parses JSON text strictly.
 * @param text UTF-8 bytes or a string
 * @param what what the text is, for the message
 * @param maxValues values that it may hold; more only where long lists of numbers are meant
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function parseJson(
  text: Uint8Array | string,
  what: string,
  maxValues: number = MAX_JSON_VALUES,
): JsonValue {
  const source = typeof text === 'string' ? text : decodeUtf8(text, what);
  let value: JsonValue;
  try {
    value = JSON.parse(source) as JsonValue;
  } catch (error) {
    throw new LatchkeyError('INPUT_MALFORMED', `${what} is not JSON`, { cause: error });
  }
  refuseDuplicateKeys(source, what);
  refuseManyValues(value, what, maxValues);
  return value;
}

function decodeUtf8(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new LatchkeyError('INPUT_MALFORMED', `${what} is not UTF-8`, { cause: error });
  }
}

/** A schema looks at every value, so they are counted before. */
function refuseManyValues(root: JsonValue, what: string, maxValues: number): void {
  const waiting = [root];
  let count = 1;
  for (let value = waiting.pop(); value !== undefined; value = waiting.pop()) {
    if (typeof value !== 'object' || value === null) continue;
    const inside = Object.values(value);
    count += inside.length;
    if (count > maxValues) {
      throw new LatchkeyError('LIMIT_EXCEEDED', `${what} holds more than ${maxValues} values`);
    }
    for (const one of inside) if (typeof one === 'object') waiting.push(one);
  }
}

/** Walks text that JSON.parse has accepted, so the grammar is known to hold and only keys are looked at. */
function refuseDuplicateKeys(source: string, what: string): void {
  const open: (Set<string> | null)[] = [];
  const token = /["{}[\]]/g;
  for (let match = token.exec(source); match !== null; match = token.exec(source)) {
    // A pattern for whole strings would use up the stack on a string of many megabytes.
    if (match[0] === '"') token.lastIndex = endOfString(source, match.index);
    const text = source.slice(match.index, token.lastIndex);
    if (text === '{' || text === '[') {
      open.push(text === '{' ? new Set() : null);
      if (open.length > MAX_DEPTH) {
        throw new LatchkeyError('INPUT_MALFORMED', `${what} is nested deeper than ${MAX_DEPTH} levels`);
      }
    } else if (text === '}' || text === ']') {
      open.pop();
    } else if (isKey(source, token.lastIndex)) {
      const key = JSON.parse(text) as string;
      const keys = open.at(-1);
      if (key === '__proto__') {
        throw new LatchkeyError('INPUT_MALFORMED', `${what} has the key "__proto__"`);
      }
      if (keys?.has(key) === true) {
        throw new LatchkeyError(
          'INPUT_MALFORMED',
          `${what} has the key ${JSON.stringify(key.slice(0, MAX_SHOWN_CHARACTERS))} twice`,
        );
      }
      keys?.add(key);
    }
  }
}

/** The index after the string that starts there. */
function endOfString(source: string, start: number): number {
  let index = start + 1;
  while (source[index] !== '"') index += source[index] === '\\' ? 2 : 1;
  return index + 1;
}

/** A string is a key exactly when a colon follows it. */
function isKey(source: string, index: number): boolean {
  const after = /\s*/uy;
  after.lastIndex = index;
  after.exec(source);
  return source[after.lastIndex] === ':';
}

/**
 * Writes JSON with sorted keys and no space, the same bytes for the same value (the part of RFC 8785 that
 * values made of strings, booleans, safe integers, arrays and objects need).
 * @throws TypeError for a number that is not a safe integer, or a value JSON does not have
 */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new TypeError(`not a safe integer: ${value}`);
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item)).join(',')}]`;
  if (typeof value === 'object') {
    const entries = Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .sort(([left], [right]) => (left < right ? -1 : 1));
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`;
  }
  throw new TypeError(`JSON has no ${typeof value}`);
}
