import { describe, expect, test } from 'vitest';
import { registryOrigin } from '#src/registry/endpoint.ts';
import { resolveLocation } from '#src/registry/redirect.ts';

describe('registryOrigin', () => {
  test.each([
    ['docker.io', {}, 'https://registry-1.docker.io'],
    ['registry.example.com', {}, 'https://registry.example.com'],
    ['registry.example.com:5000', {}, 'https://registry.example.com:5000'],
    ['10.0.0.1:5000', {}, 'https://10.0.0.1:5000'],
    ['localhost.evil.net', {}, 'https://localhost.evil.net'],
    ['127.0.0.1.evil.net:5000', {}, 'https://127.0.0.1.evil.net:5000'],
    ['localhost:5000', {}, 'http://localhost:5000'],
    ['127.0.0.1:5000', {}, 'http://127.0.0.1:5000'],
    ['[::1]:5000', {}, 'http://[::1]:5000'],
    ['localhost:5000', { allowHttp: false }, 'https://localhost:5000'],
    ['10.0.0.1:5000', { allowHttp: true }, 'http://10.0.0.1:5000'],
  ])('%s %o -> %s', (registry, options, expected) => {
    expect(registryOrigin(registry, options).origin).toBe(expected);
  });
});

describe('resolveLocation', () => {
  const base = new URL('https://registry.example.com/v2/a/blobs/uploads/');

  test('relative and absolute targets, without user info', () => {
    expect(resolveLocation('/v2/x?y=a%20b', base).href).toBe('https://registry.example.com/v2/x?y=a%20b');
    expect(resolveLocation('https://u:p@storage.example.com/x', base).href).toBe(
      'https://storage.example.com/x',
    );
  });

  test.each([
    'http://registry.example.com/x',
    'ftp://h/x',
    'https://169.254.169.254/',
    'https://[fe80::1]/',
    'https://[',
  ])('%s is refused', (location) => {
    expect(() => resolveLocation(location, base)).toThrow(
      expect.objectContaining({ code: 'NET_REGISTRY' }) as Error,
    );
  });
});
