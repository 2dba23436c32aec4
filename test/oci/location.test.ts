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
    ['oci-archive:app.tar', 'oci-archive:app.tar'],
    ['oci-archive:-:v1', 'oci-archive:-:v1'],
    [`oci-archive:app.tar@${DIGEST}`, `oci-archive:app.tar@${DIGEST}`],
    ['docker-archive:app.tar', 'docker-archive:app.tar'],
    ['docker-archive:-', 'docker-archive:-'],
    [
      'docker-archive:app.tar:registry.example.com:5000/a/b:1',
      'docker-archive:app.tar:registry.example.com:5000/a/b:1',
    ],
    ['oci:dir:sha256:abc', 'oci:dir:sha256:abc'],
    [`docker-archive:app.tar:${DIGEST}`, `docker-archive:app.tar:${DIGEST}`],
    ['docker-archive:app.tar:@2', 'docker-archive:app.tar:@2'],
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
    'oci-archive:',
    'oci-archive::tag',
    'oci-archive:x.tar:a b',
    'docker-archive:',
    'docker-archive:x.tar:',
    'docker-archive:x.tar:a/Case',
    `docker-archive:x.tar:a@${DIGEST}`,
    'docker-daemon:a:1',
    'containers-storage:a',
    'https://ghcr.io/a/b',
    './dir',
    '/var/images',
    '~/images',
  ])('%s is refused, with a hint where there is one', (text) => {
    expect(() => parseLocation(text)).toThrow(
      expect.objectContaining({ code: 'INPUT_REFERENCE_INVALID' }) as Error,
    );
  });

  test.each([
    [
      'containers-storage:localhost/app:1',
      'skopeo copy containers-storage:localhost/app:1 oci-archive:image.tar',
    ],
    ['docker-daemon:app:1', 'skopeo copy docker-daemon:app:1 oci-archive:image.tar'],
    ['docker-daemon:app$(reboot)', 'skopeo copy IMAGE oci-archive:image.tar'],
    ['./image.tar', 'oci-archive:./image.tar'],
  ])('%s is told how to be an archive', (text, command) => {
    expect(() => parseLocation(text)).toThrow(
      expect.objectContaining({ hint: expect.stringContaining(command) as string }) as Error,
    );
  });

  test('a path is told how to be a layout', () => {
    expect(() => parseLocation('./dir')).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('oci:./dir') as string }) as Error,
    );
  });

  test('whatever comes in, only our own error comes out, and what is read is written the same', () => {
    const pieces = fc.constantFrom(
      'oci:',
      'docker://',
      'oci-archive:',
      'docker-archive:',
      '-',
      'a',
      '/',
      ':',
      '@',
      '.',
      DIGEST,
      'dir:',
    );
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
