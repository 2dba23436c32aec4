import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_PROVIDER_CONFIG_BYTES } from '#src/base/limits.ts';
import { type ProviderTransport, parseProviderConfig } from '#src/keywrap/provider-config.ts';

const PATH = '/etc/ocicrypt.conf';

function parse(provider: unknown, name = 'kp'): ProviderTransport | undefined {
  const text = JSON.stringify({ 'key-providers': { [name]: provider } });
  return parseProviderConfig(Buffer.from(text), PATH).get(name);
}

describe('a provider', () => {
  test('may be a program', () => {
    const expected = { kind: 'command', path: '/x/kp', args: ['a'] };
    expect(parse({ cmd: { path: '/x/kp', args: ['a'] } })).toEqual(expected);
    expect(parse({ cmd: { path: 'kp' } })).toEqual({ kind: 'command', path: 'kp', args: [] });
    expect(parse({ cmd: { path: 'kp', args: null } })).toEqual({ kind: 'command', path: 'kp', args: [] });
  });

  test.each(['localhost:50051', '127.0.0.1:1', '[::1]:50051', 'unix:///run/kp.sock', 'unix:/run/kp.sock'])(
    'may be a service on this machine: %s',
    (address) => {
      expect(parse({ grpc: address })).toEqual({ kind: 'grpc', address, tls: undefined });
    },
  );

  test('may be a service elsewhere, with TLS', () => {
    expect(parse({ grpc: 'kms.acme.example:443', 'grpc-tls': {} })).toEqual({
      kind: 'grpc',
      address: 'kms.acme.example:443',
      tls: { authorityFile: undefined, client: undefined, serverName: undefined },
    });
    const tls = { 'root-ca-file': '/ca', 'cert-file': '/c', 'key-file': '/k', 'server-name': 'kms' };
    expect(parse({ grpc: '10.0.0.7:443', 'grpc-tls': tls })).toMatchObject({
      tls: {
        authorityFile: '/ca',
        client: { certificateFile: '/c', keyFile: '/k' },
        serverName: 'kms',
      },
    });
  });

  test('is asked by cmd when it has several transports, as Go does', () => {
    expect(parse({ grpc: 'localhost:1', cmd: { path: 'kp' }, ttrpc: 'unix:///x' })).toMatchObject({
      kind: 'command',
    });
  });

  test.each(['ttrpc', 'native'])('of the Rust peers alone is known and unsupported: %s', (transport) => {
    expect(parse({ [transport]: 'x' })).toEqual({ kind: 'unsupported', transport });
  });

  test('may have a name like a property of objects', () => {
    expect(parse({ cmd: { path: 'kp' } }, 'constructor')).toMatchObject({ kind: 'command' });
  });
});

describe('a configuration', () => {
  test.each(['{}', '{"key-providers":null}', '{"key-providers":{}}'])('may be empty: %s', (text) => {
    expect(parseProviderConfig(Buffer.from(text), PATH).size).toBe(0);
  });

  test.each([
    [{ path: '/x/kp' }, /key-providers\.kp: .*path/],
    [{ cmd: { path: '' } }, /key-providers\.kp\.cmd\.path/],
    [{ cmd: { args: ['a'] } }, /key-providers\.kp\.cmd\.path/],
    [{ cmd: { path: 'kp', args: 'a' } }, /key-providers\.kp\.cmd\.args/],
    [{ grpc: '' }, /neither cmd nor grpc/],
    [{}, /neither cmd nor grpc/],
    [{ grpc: 'http://127.0.0.1:50000' }, /neither host:port nor unix/],
    [{ grpc: 'no-port' }, /neither host:port nor unix/],
    [{ grpc: 'kms.acme.example:443' }, /plain text/],
    [{ grpc: 'localhost.evil.example:443' }, /plain text/],
    [{ grpc: 'localhost:1', 'grpc-tsl': {} }, /grpc-tsl/],
    [{ grpc: 'localhost:1', 'grpc-tls': { 'root-ca': '/ca' } }, /root-ca/],
    [{ grpc: 'localhost:1', 'grpc-tls': { 'cert-file': '/c' } }, /belong together/],
    [{ grpc: 'localhost:1', 'grpc-tls': { 'insecure-skip-verify': true } }, /whoever answers/],
    ['kp', /key-providers\.kp/],
  ])('with a mistake is refused, and the setting is named: %j', (provider, message) => {
    expect(() => parse(provider)).toThrow(message);
    try {
      parse(provider);
    } catch (error) {
      expect(error).toMatchObject({ code: 'CONFIG_INVALID' });
      expect((error as LatchkeyError).message).toContain(PATH);
      expect((error as LatchkeyError).hint).toBeDefined();
    }
  });

  test('that is too large is not parsed', () => {
    const large = Buffer.alloc(MAX_PROVIDER_CONFIG_BYTES + 1, ' ');
    expect(() => parseProviderConfig(large, PATH)).toThrow(/larger than/);
  });

  test('of whatever content raises nothing but our error', () => {
    const check = (content: Uint8Array) => {
      try {
        parseProviderConfig(content, PATH);
      } catch (error) {
        expect(error).toMatchObject({ code: 'CONFIG_INVALID' });
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), check));
    fc.assert(fc.property(fc.json(), (text) => check(Buffer.from(text))));
    const setting = fc.dictionary(
      fc.constantFrom('cmd', 'grpc', 'grpc-tls', 'ttrpc', 'native', 'path', 'x'),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(fc.dictionary(fc.string(), setting), (providers) => {
        check(Buffer.from(JSON.stringify({ 'key-providers': providers })));
      }),
    );
  });
});
