/** Small input with a large cost: refused in a process that has little memory. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { EXHAUSTION_CASES } from './exhaustion-cases.ts';

/** Of which Node itself takes some 70. */
const HEAP_MEBIBYTES = 192;
const MAX_RESIDENT_KIBIBYTES = 600 * 1024;

const EXPECTED: Record<keyof typeof EXHAUSTION_CASES, unknown> = {
  'JWE with a million recipients': 'LIMIT_EXCEEDED',
  'JWE that asks for 2^31 rounds of PBES2': 'nothing',
  'million wrapped keys': 'LIMIT_EXCEEDED',
  'manifest of empty layers': 'LIMIT_EXCEEDED',
  'index of numbers': 'LIMIT_EXCEEDED',
  'manifest of brackets': 'INPUT_MALFORMED',
  'config of empty history': 'LIMIT_EXCEEDED',
  'statement of empty signatures': 'LIMIT_EXCEEDED',
  'manifest of empty layers, on a node': 'nothing',
  'config of a million diff IDs, on a node': 'nothing',
  'layer that unpacks to a gibibyte': 64,
};

let results: ReadonlyMap<string, unknown>;

beforeAll(async () => {
  const program = join(import.meta.dirname, 'exhaustion-cases.ts');
  const limits = [`--max-old-space-size=${HEAP_MEBIBYTES}`];
  const { stdout } = await promisify(execFile)(process.execPath, [...limits, program]);
  results = new Map(
    stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as [string, unknown]),
  );
});

describe('in a small process', () => {
  test.each(Object.entries(EXPECTED))('a %s comes to its end', (name, expected) => {
    expect(results.get(name)).toBe(expected);
  });

  test('all of it takes little memory', () => {
    expect(results.get('resident KiB')).toBeLessThan(MAX_RESIDENT_KIBIBYTES);
  });
});
