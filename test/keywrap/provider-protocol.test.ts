import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_PROVIDER_MESSAGE_BYTES } from '#src/base/limits.ts';
import {
  formatUnwrapAnswer,
  formatUnwrapRequest,
  formatWrapAnswer,
  formatWrapRequest,
  parseProviderRequest,
  parseUnwrapAnswer,
  parseWrapAnswer,
} from '#src/keywrap/provider-protocol.ts';
import { decodeProviderMessage, encodeProviderMessage } from '#src/keywrap/provider-service.ts';

const bytes = fc.uint8Array({ minLength: 1, maxLength: 400 });
const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const base64 = (value: Uint8Array | string) => Buffer.from(value).toString('base64');

/** Only our own error may come out of a parser. */
function expectOurs(parse: () => unknown): void {
  try {
    parse();
  } catch (error) {
    expect(error).toBeInstanceOf(LatchkeyError);
    expect((error as LatchkeyError).code).toMatch(/^(?:INPUT_|LIMIT_)/);
  }
}

describe('requests', () => {
  test('are written as Go ocicrypt writes them', () => {
    expect(Buffer.from(formatWrapRequest('mykp', 'tenant=a:b', Buffer.from('{}'))).toString()).toBe(
      '{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"mykp":["dGVuYW50PWE6Yg=="]},' +
        '"DecryptConfig":{"Parameters":{}}},"optsdata":"e30="},"keyunwrapparams":{"dc":null,"annotation":null}}',
    );
    expect(Buffer.from(formatUnwrapRequest('mykp', undefined, Buffer.from('x'))).toString()).toBe(
      '{"op":"keyunwrap","keywrapparams":{"ec":null,"optsdata":null},' +
        '"keyunwrapparams":{"dc":{"Parameters":{}},"annotation":"eA=="}}',
    );
  });

  test('come back as they were', () => {
    fc.assert(
      fc.property(bytes, fc.string(), (value, parameter) => {
        expect(parseProviderRequest(formatWrapRequest('kp', parameter, value), 'kp')).toEqual({
          operation: 'wrap',
          parameters: [Buffer.from(parameter)],
          privateOptions: Buffer.from(value),
        });
        expect(parseProviderRequest(formatUnwrapRequest('kp', parameter, value), 'kp')).toEqual({
          operation: 'unwrap',
          element: Buffer.from(value),
        });
      }),
    );
  });

  test('hold no parameters of another provider', () => {
    const request = formatWrapRequest('kp', 'secret', Buffer.from('x'));
    expect(parseProviderRequest(request, 'other')).toMatchObject({ parameters: undefined });
    expect(parseProviderRequest(request, 'constructor')).toMatchObject({ parameters: undefined });
  });

  test.each([
    ['base64, as Go sends it', base64('{"symkey":""}')],
    ['numbers', [...Buffer.from('{"symkey":""}')]],
    ['the text itself, as the Rust encryptor sends it', '{"symkey":""}'],
  ])('give private options as %s', (_form, optsdata) => {
    const ec = { Parameters: { kp: [[1, 2], 'AwQ='] }, DecryptConfig: null };
    const request = parseProviderRequest(json({ op: 'keywrap', keywrapparams: { ec, optsdata } }), 'kp');
    expect(request).toMatchObject({
      operation: 'wrap',
      parameters: [Uint8Array.of(1, 2), Buffer.of(3, 4)],
    });
    expect(request.operation === 'wrap' && Buffer.from(request.privateOptions).toString()).toBe(
      '{"symkey":""}',
    );
  });

  test("never give the caller's private keys, whatever form these have", () => {
    const Parameters = { privkeys: [base64('PRIVATE KEY')], 'privkeys-passwords': 7, kp: null };
    const dc = { Parameters };
    const request = parseProviderRequest(
      json({ op: 'keyunwrap', keyunwrapparams: { dc, annotation: base64('element') } }),
      'kp',
    );
    expect(request).toEqual({ operation: 'unwrap', element: Buffer.from('element') });
  });

  test.each([
    [{ op: 'keyunwrap' }, /no annotation/],
    [{ op: 'keyunwrap', keyunwrapparams: null }, /no annotation/],
    [{ op: 'keyunwrap', keyunwrapparams: { annotation: null } }, /no annotation/],
    [{ op: 'keyunwrap', keyunwrapparams: { annotation: '' } }, /no annotation/],
    [{ op: 'keyunwrap', keyunwrapparams: { annotation: 'not base64!' } }, /not base64/],
    [{ op: 'keyunwrap', keyunwrapparams: { annotation: [256] } }, /malformed at keyunwrapparams.annotation/],
    [{ op: 'keyunwrap', keyunwrapparams: { annotation: [0.5] } }, /malformed/],
    [{ op: 'keywrap', keywrapparams: { ec: { Parameters: { kp: 'x' } }, optsdata: 'e30=' } }, /parameters/],
    [{ op: 'keyrotate' }, /"keyrotate"/],
    [{}, /malformed at op/],
    [[], /malformed/],
  ])('that are wrong are refused: %j', (document, message) => {
    expect(() => parseProviderRequest(json(document), 'kp')).toThrow(message);
  });
});

describe('answers', () => {
  test('are number arrays without the unused block: Go and Rust read both', () => {
    expect(Buffer.from(formatWrapAnswer(Buffer.from('A'))).toString()).toBe(
      '{"keywrapresults":{"annotation":[65]}}',
    );
    expect(Buffer.from(formatUnwrapAnswer(Buffer.from('A'))).toString()).toBe(
      '{"keyunwrapresults":{"optsdata":[65]}}',
    );
  });

  test('come back as they were', () => {
    fc.assert(
      fc.property(bytes, (value) => {
        expect(Buffer.from(parseWrapAnswer(formatWrapAnswer(value)))).toEqual(Buffer.from(value));
        expect(Buffer.from(parseUnwrapAnswer(formatUnwrapAnswer(value)))).toEqual(Buffer.from(value));
      }),
    );
  });

  test.each([
    { keyunwrapresults: { optsdata: 'QQ==' } },
    { keywrapresults: null, keyunwrapresults: { optsdata: [65] } },
    { keywrapresults: { annotation: null }, keyunwrapresults: { optsdata: 'QQ==' } },
    { keywrapresults: {}, keyunwrapresults: { optsdata: 'QQ==', more: 1 }, another: true },
  ])('are read in every form: %j', (document) => {
    expect(Buffer.from(parseUnwrapAnswer(json(document))).toString()).toBe('A');
  });

  test.each([{}, { keyunwrapresults: null }, { keyunwrapresults: { optsdata: [] } }])(
    'without a result are refused: %j',
    (document) => {
      expect(() => parseUnwrapAnswer(json(document))).toThrow(/no optsdata/);
    },
  );
});

describe('hostile documents', () => {
  const parsers = [
    (document: Uint8Array) => parseProviderRequest(document, 'kp'),
    parseWrapAnswer,
    parseUnwrapAnswer,
  ];

  test('raise nothing but our error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
        for (const parse of parsers) expectOurs(() => parse(noise));
      }),
    );
    fc.assert(
      fc.property(fc.json(), (text) => {
        for (const parse of parsers) expectOurs(() => parse(Buffer.from(text)));
      }),
    );
  });

  test('that were good before a byte changed raise nothing but our error', () => {
    const documents = [
      formatWrapRequest('kp', 'p', Buffer.from('{}')),
      formatUnwrapRequest('kp', 'p', Buffer.from('e')),
      formatWrapAnswer(Buffer.from('e')),
      formatUnwrapAnswer(Buffer.from('{}')),
    ];
    fc.assert(
      fc.property(fc.constantFrom(...documents), fc.nat(), fc.nat(255), (document, position, value) => {
        const changed = Uint8Array.from(document);
        changed[position % changed.length] = value;
        for (const parse of parsers) expectOurs(() => parse(changed));
      }),
    );
  });

  test('beyond the limit are not parsed', () => {
    const large = Buffer.alloc(MAX_PROVIDER_MESSAGE_BYTES + 1, ' ');
    for (const parse of parsers) expect(() => parse(large)).toThrow(/larger than/);
  });
});

describe('the gRPC message', () => {
  test('is field 1 with the document', () => {
    expect([...encodeProviderMessage(Buffer.from('{}'))]).toEqual([0x0a, 2, 0x7b, 0x7d]);
  });

  test('comes back as it was, with fields of a later version beside it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (document) => {
        const message = encodeProviderMessage(document);
        expect(Buffer.from(decodeProviderMessage(message))).toEqual(Buffer.from(document));
        const later = Buffer.concat([Buffer.of(0x10, 0x2a), message, Buffer.of(0x1a, 1, 0)]);
        expect(Buffer.from(decodeProviderMessage(later))).toEqual(Buffer.from(document));
      }),
    );
  });

  test('of no fields has an empty document', () => {
    expect(decodeProviderMessage(new Uint8Array())).toHaveLength(0);
  });

  test('of noise is read or refused, and never for ever', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (noise) => {
        try {
          expect(decodeProviderMessage(noise).length).toBeLessThanOrEqual(noise.length);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
    );
  });
});
