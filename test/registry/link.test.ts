import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { nextPage } from '#src/registry/link.ts';

const BASE = new URL('https://registry.example.com/v2/a/referrers/sha256:0');

function next(link: string | undefined): string | undefined {
  return nextPage(new Headers(link === undefined ? {} : { link }), BASE)?.href;
}

describe('nextPage', () => {
  test.each([
    ['</v2/a?page=2>; rel="next"', 'https://registry.example.com/v2/a?page=2'],
    ['</p2>;rel=next', 'https://registry.example.com/p2'],
    ['</p0>; rel="prev", </p2>; rel="next"', 'https://registry.example.com/p2'],
    ['</p0>; title="a, b"; rel="prev", </p2>; title="x"; rel="last next"', 'https://registry.example.com/p2'],
    ['<https://registry.example.com/p2>; rel="NEXT"', 'https://registry.example.com/p2'],
    ['<https://u:p@registry.example.com/p2>; rel="next"', 'https://registry.example.com/p2'],
  ])('%s', (link, url) => {
    expect(next(link)).toBe(url);
  });

  test.each([
    undefined,
    '',
    '</p2>',
    '</p2>; rel="prev"',
    '</p2>; rel="nextish"',
    '</p2>; rel=next-door',
    'x',
  ])('%s has no next page', (link) => {
    expect(next(link)).toBeUndefined();
  });

  test.each([
    '<https://evil.example.com/p2>; rel="next"',
    '<//evil.example.com/p2>; rel="next"',
    '<http://registry.example.com/p2>; rel="next"',
    '<https://registry.example.com:8443/p2>; rel="next"',
    '<file:///etc/passwd>; rel="next"',
    '<http://[>; rel="next"',
    `</${'x'.repeat(10_000)}>; rel="next"`,
  ])('%s is refused', (link) => {
    expect(() => next(link)).toThrow(LatchkeyError);
  });

  test('whatever comes, only our own error comes out', () => {
    const pieces = fc.constantFrom('<', '>', ';', ' rel=', '"', 'next', ',', '/p', '\\', 'https://x', ' ');
    const header = fc.array(pieces, { maxLength: 40 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(header, (link) => {
        try {
          const url = next(link);
          if (url !== undefined) expect(new URL(url).origin).toBe(BASE.origin);
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
        }
      }),
      { numRuns: 500 },
    );
  });
});
