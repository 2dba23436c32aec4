import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { formatLocation, parseLocation } from '#src/oci/location.ts';

const DIGEST = `sha256:${'b'.repeat(64)}`;

describe('parseLocation', () => {
  test.each([
    ['nginx', 'docker://docker.io/library/nginx:latest'],
    ['docker://localhost:5000/a:1', 'docker://localhost:5000/a:1'],
    ['oci:dir', 'oci:dir'],
    ['oci:/var/images/app:1.0', 'oci:/var/images/app:1.0'],
    ['oci:dir:docker.io/library/nginx:1', 'oci:dir:docker.io/library/nginx:1'],
    [`oci:dir@${DIGEST}`, `oci:dir@${DIGEST}`],
    ['oci:with space', 'oci:with space'],
  ])('%s is %s', (text, full) => {
    expect(formatLocation(parseLocation(text))).toBe(full);
  });

  test.each([
    '',
    'oci:',
    'oci::tag',
    'oci:dir:',
    'oci:dir:-x',
    'oci:dir:a b',
    'oci:dir\0',
    'docker://',
    'docker-archive:x.tar',
    'oci-archive:x.tar',
    'https://ghcr.io/a/b',
    './dir',
    '/var/images',
    '~/images',
  ])('%s is refused, with a hint where there is one', (text) => {
    expect(() => parseLocation(text)).toThrow(
      expect.objectContaining({ code: 'INPUT_REFERENCE_INVALID' }) as Error,
    );
  });

  test('a path is told how to be a layout', () => {
    expect(() => parseLocation('./dir')).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('oci:./dir') as string }) as Error,
    );
  });

  test('whatever comes in, only our own error comes out, and what is read is written the same', () => {
    const pieces = fc.constantFrom('oci:', 'docker://', 'a', '/', ':', '@', '.', DIGEST, 'dir:');
    const text = fc.oneof(
      fc.string(),
      fc.array(pieces, { maxLength: 6 }).map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(text, (location) => {
        try {
          const parsed = parseLocation(location);
          expect(parseLocation(formatLocation(parsed))).toEqual(parsed);
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
        }
      }),
      { numRuns: 500 },
    );
  });
});
