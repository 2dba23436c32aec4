import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { formatReference, parseReference, referenceTarget } from '#src/oci/reference.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

describe('parseReference', () => {
  test.each([
    ['nginx', 'docker.io/library/nginx:latest'],
    ['nginx:1.27', 'docker.io/library/nginx:1.27'],
    ['library/nginx', 'docker.io/library/nginx:latest'],
    ['acme/app', 'docker.io/acme/app:latest'],
    ['index.docker.io/nginx', 'docker.io/library/nginx:latest'],
    ['docker.io/a/b', 'docker.io/a/b:latest'],
    ['localhost/app', 'localhost/app:latest'],
    ['localhost:5000/a/b', 'localhost:5000/a/b:latest'],
    ['host:5000/a', 'host:5000/a:latest'],
    ['Host/a', 'Host/a:latest'],
    ['ghcr.io/a/b-c/d__e:V1.0_x', 'ghcr.io/a/b-c/d__e:V1.0_x'],
    ['[::1]:5000/a', '[::1]:5000/a:latest'],
    [`nginx@${DIGEST}`, `docker.io/library/nginx@${DIGEST}`],
    [`ghcr.io/a/b:1@${DIGEST}`, `ghcr.io/a/b:1@${DIGEST}`],
  ])('%s is %s', (text, full) => {
    expect(formatReference(parseReference(text))).toBe(full);
  });

  test('the digest is asked for before the tag', () => {
    expect(referenceTarget(parseReference(`a/b:1@${DIGEST}`))).toBe(DIGEST);
    expect(referenceTarget(parseReference('a/b:1'))).toBe('1');
  });

  test.each([
    '',
    ' nginx',
    'nginx:',
    'nginx:-x',
    `nginx:${'x'.repeat(129)}`,
    'NGINX',
    'ghcr.io/Acme/app',
    'a//b',
    '/a',
    'a/',
    'a..b/c',
    'a___b',
    'host:99999/a',
    'host:x/a',
    'nginx@sha256:abc',
    `nginx@${DIGEST.toUpperCase()}`,
    `nginx@sha512:${'a'.repeat(128)}`,
    'a'.repeat(64),
    `ghcr.io/${'a'.repeat(256)}`,
    'x'.repeat(5000),
    'nginx\nevil',
    'user:password@host/app',
    '999.1.1.1/app',
    '1.2.3.4.5/app',
    '[:::]/app',
  ])('%s is refused', (text) => {
    expect(() => parseReference(text)).toThrow(
      expect.objectContaining({ code: 'INPUT_REFERENCE_INVALID' }) as Error,
    );
  });

  test('an upper-case name says what it should be', () => {
    expect(() => parseReference('ghcr.io/Acme/App')).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('acme/app') as string }) as Error,
    );
  });

  test('whatever comes in, only our own error comes out, and what is read is written the same', () => {
    const pieces = fc.constantFrom(
      'a',
      'B',
      '.',
      '/',
      ':',
      '@',
      '-',
      '_',
      '[',
      ']',
      '5000',
      'localhost',
      DIGEST,
    );
    const text = fc.oneof(
      fc.string(),
      fc.array(pieces, { maxLength: 8 }).map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(text, (reference) => {
        try {
          const parsed = parseReference(reference);
          expect(parseReference(formatReference(parsed))).toEqual(parsed);
        } catch (error) {
          expect(error).toBeInstanceOf(LatchkeyError);
        }
      }),
      { numRuns: 500 },
    );
  });
});
