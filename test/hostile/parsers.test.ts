/** Every parser of outside input, given what nobody should send: nothing but a LatchkeyError comes out. */
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import type { HostileParser } from './hostile-parser.ts';
import {
  RUNS,
  arbitraryBytes,
  arbitraryText,
  mutatedBytes,
  mutatedJson,
  mutatedText,
} from './hostile-values.ts';
import { IMAGE_PARSERS } from './image-parsers.ts';
import { KEY_PARSERS } from './key-parsers.ts';
import { NODE_PARSERS } from './node-parsers.ts';
import { ARGUMENT_PARSERS } from './argument-parsers.ts';
import { OFFLINE_PARSERS } from './offline-parsers.ts';
import { RECEIVER_PARSERS } from './receiver-parsers.ts';
import { SITE_PARSERS } from './site-parsers.ts';
import { TERM_PARSERS } from './term-parsers.ts';

/** A message is shown to a person and kept in logs; what an attacker sent may not fill them. */
const MAX_MESSAGE_CHARACTERS = 4_096;

const parsers = [
  ...IMAGE_PARSERS,
  ...KEY_PARSERS,
  ...SITE_PARSERS,
  ...TERM_PARSERS,
  ...RECEIVER_PARSERS,
  ...NODE_PARSERS,
  ...ARGUMENT_PARSERS,
  ...OFFLINE_PARSERS,
];
const named = parsers.map((parser) => [`${parser.name} (${parser.file})`, parser] as const);

function isJson(input: Uint8Array | string): input is Uint8Array {
  return typeof input !== 'string' && (input[0] === 0x7b || input[0] === 0x5b);
}

/** Arbitrary input, and every valid one with something wrong in it. */
function hostileInput({ valid }: HostileParser): fc.Arbitrary<Uint8Array | string> {
  const takesText = valid.some((input) => typeof input === 'string');
  const mutations = valid.map((input): fc.Arbitrary<Uint8Array | string> => {
    if (typeof input === 'string') return mutatedText(input);
    if (isJson(input)) return fc.oneof({ weight: 3, arbitrary: mutatedJson(input) }, mutatedBytes(input));
    return mutatedBytes(input);
  });
  const arbitrary: fc.Arbitrary<Uint8Array | string> = takesText ? arbitraryText : arbitraryBytes;
  return fc.oneof(
    { weight: 1, arbitrary },
    ...mutations.map((mutation) => ({ weight: 2, arbitrary: mutation })),
  );
}

async function outcome({ read, raises, isTyped }: HostileParser, input: Uint8Array | string): Promise<void> {
  try {
    await read(input as never);
  } catch (error) {
    if (raises !== undefined && error instanceof raises) return;
    expect(error).toBeInstanceOf(LatchkeyError);
    const { code, message } = error as LatchkeyError;
    expect(code).not.toBe('BUG_UNEXPECTED');
    if (isTyped !== true) expect(message.length).toBeLessThan(MAX_MESSAGE_CHARACTERS);
  }
}

afterAll(() => {
  expect(Object.keys(Object.prototype)).toEqual([]);
});

describe('whatever it is given, only our own error comes out of', () => {
  test.each(named)('%s', async (_name, parser) => {
    await fc.assert(
      fc.asyncProperty(hostileInput(parser), (input) => outcome(parser, input)),
      // Making a long document shorter takes minutes; the seed is enough to find it again.
      { numRuns: parser.isSlow === true ? Math.ceil(RUNS / 4) : RUNS, endOnFailure: true },
    );
  });
});

describe('what is well formed is read by', () => {
  test.each(named)('%s', async (_name, { valid, read }) => {
    for (const input of valid) await read(input as never);
  });
});
