/** What an attacker sends: arbitrary values, and valid documents with something wrong in them. */
import fc from 'fast-check';

/** Property runs; the long ones are for a machine with time. */
export const RUNS = process.env['SLOW'] === '1' ? 1_000 : 60;

/** Spelled out in JSON text where JSON.stringify would not write them. */
const RAW_NUMBERS = [
  '1e999',
  '-1e999',
  '1e-999',
  '-0',
  '9007199254740993',
  `1${'0'.repeat(400)}`,
  '0.1',
  '-1',
];
const RAW_MARK = '@@raw:';

/** Strings that trip readers: prototypes, paths, controls, half characters, lengths. */
const AWKWARD_STRINGS = [
  '',
  '\0',
  'a\0b',
  '\ud800',
  '\udc00\ud800',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  '../../../../etc/passwd',
  '/etc/passwd',
  '..\\..\\x',
  'file:///etc/passwd',
  'http://169.254.169.254/latest/meta-data/',
  '%00%2e%2e%2f',
  '\u001b[2J\u001b]0;x\u0007',
  '\u009b31m',
  '\u202etxt.exe',
  'ﬀ',
  'ſymkey',
  '\u212aey',
  'line\nbreak\r\n',
  'sha256:',
  `sha256:${'0'.repeat(63)}`,
  `sha256:${'A'.repeat(64)}`,
  `sha256:${'0'.repeat(64)}\n`,
  'a'.repeat(70_000),
  ','.repeat(5_000),
  'AAAA,'.repeat(2_000),
  '='.repeat(100),
  'null',
  '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----',
];

export const hostileString: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.constantFrom(...AWKWARD_STRINGS),
);

const hostileLeaf: fc.Arbitrary<unknown> = fc.oneof(
  hostileString,
  fc.constantFrom<unknown>(null, true, false, 0, -1, 1.5, 2 ** 53, [], {}, [[]], [null], { a: {} }),
  fc.constantFrom(...RAW_NUMBERS).map((text) => `${RAW_MARK}${text}`),
  fc.jsonValue({ maxDepth: 2 }),
);

/** Documents that are deep, wide or long, as text. */
const heavyText: fc.Arbitrary<string> = fc
  .tuple(
    fc.constantFrom('deep list', 'deep object', 'wide list', 'wide object', 'long string', 'long number'),
    fc.constantFrom(31, 33, 1_000, 20_000),
  )
  .map(([kind, size]) => {
    switch (kind) {
      case 'deep list':
        return `${'['.repeat(size)}${']'.repeat(size)}`;
      case 'deep object':
        return `${'{"a":'.repeat(size)}1${'}'.repeat(size)}`;
      case 'wide list':
        return `[${'{},'.repeat(size)}0]`;
      case 'wide object':
        return `{${Array.from({ length: size }, (_, index) => `"k${index}":[]`).join(',')}}`;
      case 'long string':
        return JSON.stringify('\\"'.repeat(size));
      default:
        return '9'.repeat(size);
    }
  });

/** Text that is nothing in particular. */
export const arbitraryText: fc.Arbitrary<string> = fc.oneof(
  hostileString,
  fc.json({ maxDepth: 3 }),
  heavyText,
);

/** Bytes that are nothing in particular. */
export const arbitraryBytes: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  arbitraryText.map((text) => Buffer.from(text)),
  fc.constantFrom(Buffer.from([0xff, 0xfe, 0x7b]), Buffer.from('\ufeff{}'), Buffer.alloc(2000, 0x30)),
);

/** Flipped, cut, doubled, moved or inserted bytes. */
export function mutatedBytes(valid: Uint8Array): fc.Arbitrary<Uint8Array> {
  const change = fc.record({
    kind: fc.constantFrom('flip', 'set', 'cut', 'drop', 'double', 'insert'),
    at: fc.nat(),
    length: fc.integer({ min: 1, max: 16 }),
    value: fc.nat(255),
  });
  return fc.array(change, { minLength: 1, maxLength: 4 }).map((changes) => {
    let bytes = Buffer.from(valid);
    for (const { kind, at, length, value } of changes) {
      if (bytes.length === 0) break;
      const start = at % bytes.length;
      const [head, piece, tail] = [
        bytes.subarray(0, start),
        bytes.subarray(start, start + length),
        bytes.subarray(start + length),
      ];
      if (kind === 'flip') bytes[start]! ^= 1 << (value % 8);
      else if (kind === 'set') bytes[start] = value;
      else if (kind === 'cut') bytes = Buffer.from(head);
      else if (kind === 'drop') bytes = Buffer.concat([head, tail]);
      else if (kind === 'double') bytes = Buffer.concat([head, piece, piece, tail]);
      else bytes = Buffer.concat([head, Buffer.alloc(length, value), piece, tail]);
    }
    return bytes;
  });
}

/** Text with characters changed, cut, doubled or put in. */
export function mutatedText(valid: string): fc.Arbitrary<string> {
  const change = fc.record({ at: fc.nat(), length: fc.nat(8), insert: hostileString });
  return fc.array(change, { minLength: 1, maxLength: 3 }).map((changes) =>
    changes.reduce((text, { at, length, insert }) => {
      const start = at % (text.length + 1);
      return text.slice(0, start) + insert + text.slice(start + length);
    }, valid),
  );
}

/** A JSON document with fields removed, renamed, replaced, moved or said twice. */
export function mutatedJson(valid: Uint8Array): fc.Arbitrary<Uint8Array> {
  const document = JSON.parse(Buffer.from(valid).toString()) as unknown;
  const change = fc.record({
    kind: fc.constantFrom('replace', 'delete', 'rename', 'add', 'wrap', 'repeat', 'copy'),
    at: fc.nat(),
    from: fc.nat(),
    name: hostileString,
    value: hostileLeaf,
  });
  const duplicate = fc.option(fc.record({ at: fc.nat(), value: hostileLeaf }), { freq: 4 });
  return fc.tuple(fc.array(change, { minLength: 1, maxLength: 3 }), duplicate).map(([changes, twice]) => {
    const copy = { root: structuredClone(document) };
    for (const { kind, at, from, name, value } of changes) {
      const places = placesIn(copy);
      const place = places[at % places.length];
      if (place === undefined) break;
      const put = kind === 'copy' ? valueAt(places[from % places.length]) : structuredClone(value);
      applyChange(place, kind, name, put);
    }
    return Buffer.from(sayTwice(toText(copy.root), twice));
  });
}

interface Place {
  readonly parent: Record<string, unknown>;
  readonly key: string;
}

/** Every field and list item of a document. */
function placesIn(value: unknown): Place[] {
  if (typeof value !== 'object' || value === null) return [];
  const parent = value as Record<string, unknown>;
  return Object.keys(parent).flatMap((key) => [{ parent, key }, ...placesIn(parent[key])]);
}

function valueAt(place: Place | undefined): unknown {
  return place === undefined ? undefined : structuredClone(place.parent[place.key]);
}

function applyChange({ parent, key }: Place, kind: string, name: string, value: unknown): void {
  const old = parent[key];
  const isList = Array.isArray(parent);
  switch (kind) {
    case 'delete':
      if (isList) parent.splice(Number(key), 1);
      else Reflect.deleteProperty(parent, key);
      break;
    case 'rename':
      Reflect.deleteProperty(parent, key);
      define(parent, name, old);
      break;
    case 'add':
      if (typeof old === 'object' && old !== null) define(old as Record<string, unknown>, name, value);
      break;
    case 'wrap':
      parent[key] = [old];
      break;
    case 'repeat':
      // Often few, and now and then more than any list may hold.
      parent[key] = Array.from({ length: name.length % 8 === 0 ? 600 : 3 }, () => old);
      break;
    default:
      parent[key] = value;
  }
}

/** Also for `__proto__`, which an assignment would take for something else. */
function define(target: Record<string, unknown>, name: string, value: unknown): void {
  if (Array.isArray(target)) target.push(value);
  else Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
}

function toText(document: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(document);
  } catch (error) {
    // Copies of copies can be longer than any text; no parser is ever given such a one.
    if (!(error instanceof RangeError)) throw error;
  }
  return (text ?? 'null').replaceAll(new RegExp(`"${RAW_MARK}([^"]*)"`, 'g'), '$1');
}

/** Puts a field of some object before itself, so that two readers could read two values. */
function sayTwice(text: string, twice: { readonly at: number; readonly value: unknown } | null): string {
  const fields = [...text.matchAll(/("(?:[^"\\]|\\.)*"):/g)];
  const field = twice === null ? undefined : fields[twice.at % Math.max(1, fields.length)];
  if (field === undefined) return text;
  return `${text.slice(0, field.index)}${field[1] ?? ''}:${toText(twice?.value)},${text.slice(field.index)}`;
}
