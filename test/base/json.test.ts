import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { canonicalJson, parseJson } from '#src/base/json.ts';
import { MAX_JSON_VALUES } from '#src/base/limits.ts';

const malformed = expect.objectContaining({ code: 'INPUT_MALFORMED' }) as unknown;

/** Any JSON value without the one key that is refused as such. */
const value = fc.jsonValue({ maxDepth: 6 }).filter((one) => !JSON.stringify(one).includes('__proto__'));

/** Every character as \uXXXX: another spelling of the same string. */
function escaped(text: string): string {
  const units = Array.from({ length: text.length }, (_, index) => text.charCodeAt(index));
  return `"${units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('')}"`;
}

describe('parseJson', () => {
  test('reads what JSON.parse reads, as text and as bytes, compact and spaced', () => {
    fc.assert(
      fc.property(value, fc.constantFrom(undefined, 1, '\t', '\n\r '), (one, space) => {
        const text = JSON.stringify(one, undefined, space);
        expect(parseJson(text, 'it')).toEqual(JSON.parse(text));
        const wellFormed = text.isWellFormed();
        if (wellFormed) expect(parseJson(Buffer.from(text), 'it')).toEqual(JSON.parse(text));
      }),
    );
  });

  test('raises nothing but INPUT_MALFORMED, whatever it is given', () => {
    const attempt = (input: Uint8Array | string): void => {
      try {
        parseJson(input, 'it');
      } catch (error) {
        expect(error).toBeInstanceOf(LatchkeyError);
        expect(error).toMatchObject({ code: 'INPUT_MALFORMED' });
      }
    };
    fc.assert(fc.property(fc.string({ unit: 'binary' }), attempt));
    fc.assert(fc.property(fc.uint8Array(), attempt));
    const pieces = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      '"',
      '\\',
      ':',
      ',',
      'a',
      '"a"',
      '1',
      ' ',
      '\\"',
      'null',
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 20 }), (parts) => {
        attempt(parts.join(''));
      }),
      { numRuns: 2000 },
    );
  });

  test('refuses a key that comes twice, at any depth and in any spelling', () => {
    const depth = fc.array(fc.constantFrom('list', 'object'), { maxLength: 10 });
    const key = fc.string({ minLength: 1 }).filter((name) => name !== '__proto__');
    fc.assert(
      fc.property(key, depth, value, fc.boolean(), (name, levels, between, spell) => {
        const again = spell ? escaped(name) : JSON.stringify(name);
        const inner = `{${JSON.stringify(name)}:1,"<${between === null}>":${JSON.stringify(between)},${again} :2}`;
        fc.pre(name !== `<${between === null}>`);
        const text = levels.reduce(
          (json, level) => (level === 'list' ? `[0,${json},{}]` : `{"x":[{}],"y":${json},"z":{"y":0}}`),
          inner,
        );
        expect(() => JSON.parse(text) as unknown).not.toThrow();
        expect(() => parseJson(text, 'it')).toThrow(malformed);
      }),
    );
  });

  test('takes the same key in different objects, and strings that look like keys', () => {
    for (const text of [
      '[{"a":1},{"a":2}]',
      '{"a":{"a":{"a":1}}}',
      '{"a":"a","b":["a","a"],"c":"\\"a\\":1"}',
      '{"a\\"":1,"a":2,"a\\\\":3}',
      '{"a":"}{","b":"]["}',
      '"\\u0022a\\u0022:"',
    ]) {
      expect(parseJson(text, 'it')).toEqual(JSON.parse(text));
    }
  });

  test.each(['{"__proto__":1}', '[{"a":{"\\u005f_proto__":{}}}]'])(
    'refuses the key of prototypes: %s',
    (text) => {
      expect(() => parseJson(text, 'it')).toThrow(malformed);
    },
  );

  test('takes 32 levels and no more', () => {
    expect(parseJson('['.repeat(32) + ']'.repeat(32), 'it')).toBeDefined();
    for (const depth of [33, 1_000_000]) {
      expect(() => parseJson('['.repeat(depth) + ']'.repeat(depth), 'it')).toThrow(malformed);
    }
  });

  test('takes strings of many megabytes', () => {
    for (const piece of ['x', '\\n', '\\"']) {
      const text = `{"a":"${piece.repeat(15_000_000)}","b":1}`;
      expect(parseJson(text, 'it')).toMatchObject({ b: 1 });
    }
  });

  test('names the document', () => {
    expect(() => parseJson('', 'the manifest')).toThrow('the manifest is not JSON');
    expect(() => parseJson(Buffer.of(0xff), 'the manifest')).toThrow('the manifest is not UTF-8');
    expect(() => parseJson('{"a":1,"a":1}', 'the manifest')).toThrow('the manifest has the key "a" twice');
  });
});

describe('canonicalJson', () => {
  /** Values of the part of RFC 8785 that it is for. */
  const { canonical } = fc.letrec((tie) => ({
    canonical: fc.oneof(
      { maxDepth: 4 },
      fc.string(),
      fc.maxSafeInteger(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('canonical'), { maxLength: 4 }),
      fc.dictionary(
        fc.string().filter((key) => key !== '__proto__'),
        tie('canonical'),
        { maxKeys: 5 },
      ),
    ),
  }));

  function shuffled(one: unknown): unknown {
    if (Array.isArray(one)) return one.map(shuffled);
    if (typeof one !== 'object' || one === null) return one;
    return Object.fromEntries(
      Object.entries(one)
        .map(([key, item]) => [key, shuffled(item)] as const)
        .reverse(),
    );
  }

  test('is the same for any order of keys, says the same value, and is its own canonical form', () => {
    fc.assert(
      fc.property(canonical, (one) => {
        const text = canonicalJson(one);
        expect(canonicalJson(shuffled(one))).toBe(text);
        // JSON has one zero only.
        expect(parseJson(text, 'it')).toEqual(JSON.parse(JSON.stringify(one)));
        expect(canonicalJson(JSON.parse(text))).toBe(text);
      }),
    );
  });

  test('tells different values apart', () => {
    fc.assert(
      fc.property(canonical, canonical, (left, right) => {
        const same =
          JSON.stringify(shuffled(JSON.parse(canonicalJson(left)))) ===
          JSON.stringify(shuffled(JSON.parse(canonicalJson(right))));
        expect(canonicalJson(left) === canonicalJson(right)).toBe(same);
      }),
    );
  });

  test('sorts by UTF-16 code units (RFC 8785, 3.2.3)', () => {
    const keys = ['\u20ac', '\r', '\ufb33', '1', '\ud83d\ude00', '\u0080', '\u00f6'];
    const text = canonicalJson(Object.fromEntries(keys.map((key) => [key, 0])));
    expect(Object.keys(JSON.parse(text) as object)).toEqual([
      '1',
      '\r',
      '\u0080',
      '\u00f6',
      '\u20ac',
      '\ud83d\ude00',
      '\ufb33',
    ]);
  });

  test('leaves out what is undefined', () => {
    expect(canonicalJson({ b: undefined, a: 1 })).toBe('{"a":1}');
  });

  test.each([[0.5], [Number.NaN], [Infinity], [2 ** 53], [undefined], [() => 1], [1n], [[undefined]]])(
    'refuses %s, which is a mistake of the caller',
    (one) => {
      expect(() => canonicalJson({ one: [one] })).toThrow(TypeError);
    },
  );
});

describe('a document of very many values', () => {
  test.each([
    ['a list', `[${'{},'.repeat(MAX_JSON_VALUES)}0]`],
    ['an object', `{${Array.from({ length: MAX_JSON_VALUES }, (_, key) => `"${key}":0`).join(',')}}`],
    ['lists in lists', `[${`[${'0,'.repeat(999)}0],`.repeat(MAX_JSON_VALUES / 1000)}0]`],
  ])('is refused before anybody looks at them: %s', (_what, text) => {
    expect(() => parseJson(text, 'it')).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }));
    expect(parseJson(text, 'it', 2 * MAX_JSON_VALUES)).toBeDefined();
  });
});
