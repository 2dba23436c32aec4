/**
 * The documents of ocicrypt's key provider protocol (ocicrypt docs/keyprovider.md, keywrap/keyprovider), both sides.
 * Traps: Go writes bytes as base64 and reads base64 or a number array; the Rust peers read base64 in a request but
 * only number arrays in an answer, and refuse the answer's unused block; as an encryptor Rust sends the private
 * options as they are. So requests are written like Go's, answers with number arrays, and every form is read.
 * Peers hand a provider the user's private keys and passwords; we neither send nor read them.
 */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { MAX_PROVIDER_MESSAGE_BYTES } from '#src/base/limits.ts';
import { decodeBase64, encodeBase64 } from '#src/crypto/base64.ts';

export type ProviderRequest =
  | {
      readonly operation: 'wrap';
      /** What the user gave for this provider; undefined = it was not asked for by its name. */
      readonly parameters: readonly Uint8Array[] | undefined;
      readonly privateOptions: Uint8Array;
    }
  | { readonly operation: 'unwrap'; readonly element: Uint8Array };

const bytesSchema = z.union([z.string(), z.array(z.int().min(0).max(255))]);
type EncodedBytes = z.infer<typeof bytesSchema>;

const requestSchema = z.object({
  op: z.string(),
  keywrapparams: z
    .object({
      ec: z.object({ Parameters: z.record(z.string(), z.unknown()).nullish() }).nullish(),
      optsdata: bytesSchema.nullish(),
    })
    .nullish(),
  keyunwrapparams: z.object({ annotation: bytesSchema.nullish() }).nullish(),
});

const parametersSchema = z.array(bytesSchema);

const answerSchema = z.object({
  keywrapresults: z.object({ annotation: bytesSchema.nullish() }).nullish(),
  keyunwrapresults: z.object({ optsdata: bytesSchema.nullish() }).nullish(),
});

/** Asks a provider to wrap the private options of a layer. */
export function formatWrapRequest(name: string, parameter: string, privateOptions: Uint8Array): Uint8Array {
  const ec = { Parameters: { [name]: [encodeText(parameter)] }, DecryptConfig: { Parameters: {} } };
  return formatDocument({
    op: 'keywrap',
    keywrapparams: { ec, optsdata: encodeBase64(privateOptions) },
    keyunwrapparams: { dc: null, annotation: null },
  });
}

/**
 * Asks a provider to open an element.
 * @param parameter what the user gave for this provider; of other keys it is told nothing
 */
export function formatUnwrapRequest(
  name: string,
  parameter: string | undefined,
  element: Uint8Array,
): Uint8Array {
  const parameters = parameter === undefined ? {} : { [name]: [encodeText(parameter)] };
  return formatDocument({
    op: 'keyunwrap',
    keywrapparams: { ec: null, optsdata: null },
    keyunwrapparams: { dc: { Parameters: parameters }, annotation: encodeBase64(element) },
  });
}

/**
 * Reads a request to a provider of this name.
 * @throws LatchkeyError INPUT_MALFORMED, INPUT_UNSUPPORTED for another operation, LIMIT_EXCEEDED
 */
export function parseProviderRequest(bytes: Uint8Array, name: string): ProviderRequest {
  const what = 'the key provider request';
  const request = parseDocument(bytes, requestSchema, what);
  switch (request.op) {
    case 'keywrap': {
      const parameters = request.keywrapparams?.ec?.Parameters ?? {};
      return {
        operation: 'wrap',
        parameters: Object.hasOwn(parameters, name) ? parseParameters(parameters[name]) : undefined,
        privateOptions: requireBytes(request.keywrapparams?.optsdata, 'optsdata', what),
      };
    }
    case 'keyunwrap':
      return {
        operation: 'unwrap',
        element: requireBytes(request.keyunwrapparams?.annotation, 'annotation', what),
      };
    default:
      throw new LatchkeyError(
        'INPUT_UNSUPPORTED',
        `${what} is for ${JSON.stringify(request.op.slice(0, 64))}, not for keywrap or keyunwrap`,
      );
  }
}

/** Answers a wrap request. */
export function formatWrapAnswer(element: Uint8Array): Uint8Array {
  return formatDocument({ keywrapresults: { annotation: [...element] } });
}

/** Answers an unwrap request. */
export function formatUnwrapAnswer(privateOptions: Uint8Array): Uint8Array {
  return formatDocument({ keyunwrapresults: { optsdata: [...privateOptions] } });
}

/**
 * Reads the answer to a wrap request.
 * @returns the element
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function parseWrapAnswer(bytes: Uint8Array): Uint8Array {
  const what = 'the answer';
  const { keywrapresults: results } = parseDocument(bytes, answerSchema, what);
  return requireBytes(results?.annotation, 'annotation', what);
}

/**
 * Reads the answer to an unwrap request.
 * @returns the private options
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function parseUnwrapAnswer(bytes: Uint8Array): Uint8Array {
  const what = 'the answer';
  const { keyunwrapresults: results } = parseDocument(bytes, answerSchema, what);
  return requireBytes(results?.optsdata, 'optsdata', what);
}

function parseDocument<Schema extends z.ZodType>(
  bytes: Uint8Array,
  schema: Schema,
  what: string,
): z.infer<Schema> {
  if (bytes.length > MAX_PROVIDER_MESSAGE_BYTES) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `${what} is larger than ${MAX_PROVIDER_MESSAGE_BYTES} bytes`);
  }
  const parsed = schema.safeParse(parseJson(bytes, what, MAX_PROVIDER_MESSAGE_BYTES));
  if (parsed.success) return parsed.data;
  const where = parsed.error.issues[0]?.path.map(String).join('.') ?? '';
  throw new LatchkeyError('INPUT_MALFORMED', `${what} is malformed${where === '' ? '' : ` at ${where}`}`);
}

function parseParameters(value: unknown): Uint8Array[] {
  const what = 'the key provider request';
  const parsed = parametersSchema.safeParse(value);
  if (parsed.success) return parsed.data.map((item) => decodeBytes(item, 'parameter', what));
  throw new LatchkeyError('INPUT_MALFORMED', `${what} has malformed parameters`);
}

function requireBytes(value: EncodedBytes | null | undefined, name: string, what: string): Uint8Array {
  const bytes = value === null || value === undefined ? undefined : decodeBytes(value, name, what);
  if (bytes !== undefined && bytes.length > 0) return bytes;
  throw new LatchkeyError('INPUT_MALFORMED', `${what} has no ${name}`);
}

/** A text that begins like a JSON object is the bytes themselves: base64 has no brace. */
function decodeBytes(value: EncodedBytes, name: string, what: string): Uint8Array {
  if (typeof value !== 'string') return Uint8Array.from(value);
  if (value.startsWith('{')) return Buffer.from(value);
  const bytes = decodeBase64(value);
  if (bytes !== undefined) return bytes;
  throw new LatchkeyError('INPUT_MALFORMED', `${what} has a malformed ${name}: it is not base64`);
}

function encodeText(text: string): string {
  return encodeBase64(Buffer.from(text));
}

function formatDocument(document: object): Uint8Array {
  return Buffer.from(JSON.stringify(document));
}
