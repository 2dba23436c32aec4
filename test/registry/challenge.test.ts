import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_CHALLENGE_CHARACTERS } from '#src/base/limits.ts';
import { parseChallenges } from '#src/registry/challenge.ts';

function parsed(header: string): [string, Record<string, string>][] {
  return parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
}

describe('parseChallenges', () => {
  test.each<[string, [string, Record<string, string>][]]>([
    [
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
      [
        [
          'bearer',
          {
            realm: 'https://auth.docker.io/token',
            service: 'registry.docker.io',
            scope: 'repository:a/b:pull,push',
          },
        ],
      ],
    ],
    ['Basic realm="Registry"', [['basic', { realm: 'Registry' }]]],
    ['BASIC  Realm = "a \\"b\\" c" ', [['basic', { realm: 'a "b" c' }]]],
    [
      'Bearer realm=https://host/token,service=host',
      [['bearer', { realm: 'https://host/token', service: 'host' }]],
    ],
    [
      'Negotiate, Basic realm="x", Bearer realm="y", service="z"',
      [
        ['negotiate', {}],
        ['basic', { realm: 'x' }],
        ['bearer', { realm: 'y', service: 'z' }],
      ],
    ],
    [
      'Negotiate YWJjZA==, Basic realm="x"',
      [
        ['negotiate', {}],
        ['basic', { realm: 'x' }],
      ],
    ],
    ['Bearer realm="first",realm="second"', [['bearer', { realm: 'first' }]]],
    ['', []],
    [' , ,', []],
  ])('%s', (header, expected) => {
    expect(parsed(header)).toEqual(expected);
  });

  test.each(['"', 'Bearer realm="open', '= =', 'x'.repeat(MAX_CHALLENGE_CHARACTERS + 1)])(
    'refuses %#',
    (header) => {
      expect(() => parseChallenges(header)).toThrow(LatchkeyError);
    },
  );

  test('whatever comes in, only our own error comes out', () => {
    const pieces = fc.constantFrom('Bearer', 'Basic', ' ', ',', '=', '"', '\\', 'realm', 'a', '\t', '/', 'é');
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(pieces).map((parts) => parts.join('')),
        ),
        (header) => {
          try {
            parseChallenges(header);
          } catch (error) {
            expect(error).toBeInstanceOf(LatchkeyError);
          }
        },
      ),
    );
  });

  test('what is written is read back', () => {
    const name = fc.stringMatching(/^[a-z]{1,8}$/);
    const value = fc.string({ unit: fc.constantFrom('a', ' ', ',', '=', '"', '\\', ':', '/') });
    const challenge = fc.tuple(name, fc.dictionary(name, value, { minKeys: 1, noNullPrototype: true }));
    fc.assert(
      fc.property(fc.array(challenge, { maxLength: 3 }), (challenges) => {
        const header = challenges
          .map(([scheme, parameters]) => {
            const written = Object.entries(parameters).map(
              ([key, text]) => `${key}="${text.replace(/["\\]/g, '\\$&')}"`,
            );
            return `${scheme} ${written.join(', ')}`;
          })
          .join(', ');
        expect(parsed(header)).toEqual(challenges);
      }),
    );
  });
});
