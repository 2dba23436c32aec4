/** PKCS#11 URIs (RFC 7512): which key on which token, behind which module. They may hold a PIN, so no message repeats one. */
import { LatchkeyError } from '#src/base/errors.ts';

export interface Pkcs11Uri {
  /** The token, by its label and what else identifies it. */
  readonly token?: string | undefined;
  readonly manufacturer?: string | undefined;
  readonly model?: string | undefined;
  readonly serial?: string | undefined;
  readonly slotId?: number | undefined;
  /** The key, by its label (CKA_LABEL), its id (CKA_ID), or both. */
  readonly object?: string | undefined;
  readonly id?: Buffer | undefined;
  /** Secret. */
  readonly pinValue?: string | undefined;
  /** Path of a file with the PIN. */
  readonly pinSource?: string | undefined;
  readonly moduleName?: string | undefined;
  readonly modulePath?: string | undefined;
}

const SCHEME = 'pkcs11:';
/** RFC 7512 section 2.3; those without a use here only describe what is found anyway. */
const PATH_ATTRIBUTES: ReadonlySet<string> = new Set([
  ...['token', 'manufacturer', 'model', 'serial', 'slot-id', 'object', 'id', 'type'],
  ...[
    'library-manufacturer',
    'library-description',
    'library-version',
    'slot-manufacturer',
    'slot-description',
  ],
]);
const QUERY_ATTRIBUTES: ReadonlySet<string> = new Set([
  'pin-source',
  'pin-value',
  'module-name',
  'module-path',
]);
/** The longest real ones have some 500 characters. */
const MAX_CHARACTERS = 4096;
const MAX_SLOT_ID = 0xffff_ffff;

/**
 * Reads a URI. It must name a key and the token it is on, and the module by name or path.
 * @throws LatchkeyError KEY_INVALID
 */
export function parsePkcs11Uri(uri: string): Pkcs11Uri {
  if (!uri.startsWith(SCHEME) || uri.length > MAX_CHARACTERS)
    throw malformed(`it does not start with ${SCHEME}`);
  const [pathText = '', ...queryTexts] = uri.slice(SCHEME.length).split('?');
  if (queryTexts.length > 1) throw malformed('it has two question marks');
  const path = attributesOf(pathText, ';', PATH_ATTRIBUTES);
  const query = attributesOf(queryTexts[0] ?? '', '&', QUERY_ATTRIBUTES);
  const parsed: Pkcs11Uri = {
    token: textOf(path, 'token'),
    manufacturer: textOf(path, 'manufacturer'),
    model: textOf(path, 'model'),
    serial: textOf(path, 'serial'),
    slotId: slotIdOf(textOf(path, 'slot-id')),
    object: textOf(path, 'object'),
    id: path.get('id'),
    pinValue: textOf(query, 'pin-value'),
    pinSource: pinSourceOf(textOf(query, 'pin-source')),
    moduleName: textOf(query, 'module-name'),
    modulePath: textOf(query, 'module-path'),
  };
  if (parsed.object === undefined && parsed.id === undefined)
    throw malformed('it names no key: object= or id=');
  if (parsed.token === undefined && parsed.slotId === undefined)
    throw malformed('it names no token: token= or slot-id=');
  if (parsed.moduleName === undefined && parsed.modulePath === undefined) {
    throw malformed('it names no module: module-name= or module-path=');
  }
  return parsed;
}

/** Values are bytes: percent-encoding is how an id is written. Attributes of vendors may be ignored. */
function attributesOf(text: string, separator: string, known: ReadonlySet<string>): Map<string, Buffer> {
  const attributes = new Map<string, Buffer>();
  for (const part of text.split(separator).filter((item) => item !== '')) {
    const equals = part.indexOf('=');
    const name = equals === -1 ? part : part.slice(0, equals);
    if (!known.has(name)) {
      if (/^[a-z-]+$/.test(name) && !name.startsWith('x-'))
        throw malformed(`it has an unknown attribute ${name}`);
      continue;
    }
    const value = equals === -1 ? undefined : percentDecoded(part.slice(equals + 1));
    if (value === undefined || value.length === 0) throw malformed(`${name} has no proper value`);
    if (attributes.has(name)) throw malformed(`it has ${name} twice`);
    attributes.set(name, value);
  }
  return attributes;
}

function percentDecoded(text: string): Buffer | undefined {
  if (!/^(?:[\x21-\x24\x26-\x7e]|%[0-9A-Fa-f]{2})*$/.test(text)) return undefined;
  const latin1 = text.replaceAll(/%([0-9A-Fa-f]{2})/g, (_match, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(latin1, 'latin1');
}

function textOf(attributes: ReadonlyMap<string, Buffer>, name: string): string | undefined {
  const bytes = attributes.get(name);
  if (bytes === undefined) return undefined;
  const text = bytes.toString();
  if (Buffer.from(text).equals(bytes) && !text.includes('\0')) return text;
  throw malformed(`${name} is not text`);
}

function slotIdOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const slotId = /^\d{1,10}$/.test(text) ? Number(text) : MAX_SLOT_ID + 1;
  if (slotId <= MAX_SLOT_ID) return slotId;
  throw malformed('slot-id is not a slot number');
}

/** A file, as peers read it; the RFC also allows a program to run, which is refused. */
function pinSourceOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const path = text.replace(/^file:(?:\/\/(?=\/))?/, '');
  if (path.startsWith('/')) return path;
  throw malformed('pin-source is not the absolute path of a file');
}

function malformed(why: string): LatchkeyError {
  return new LatchkeyError('KEY_INVALID', `the PKCS#11 URI cannot be used: ${why}`, {
    hint: 'like pkcs11:token=LABEL;object=KEY?pin-source=/path/of/pin&module-name=softhsm2, in quotes on a command line',
  });
}
