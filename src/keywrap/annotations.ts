/**
 * The annotations of an encrypted layer (ocicrypt encryption.go): public options, and per scheme a comma list of
 * base64 elements. Each later "add recipient" run of a peer appends an element.
 */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { MAX_ANNOTATION_BYTES, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import { decodeBase64, encodeBase64 } from '#src/crypto/base64.ts';
import {
  type PublicLayerOptions,
  formatPublicOptions,
  parsePrivateOptions,
  parsePublicOptions,
} from '#src/crypto/layer-options.ts';
import {
  ENCRYPTION_ANNOTATION_PREFIX,
  type KeyUnwrapper,
  type KeyWrapper,
  PUBLIC_OPTIONS_ANNOTATION,
} from './key-wrapper.ts';

export type Annotations = Readonly<Record<string, string>>;

/** Annotations with this prefix hold wrapped keys; what follows names the scheme. */
export const WRAPPED_KEYS_PREFIX = `${ENCRYPTION_ANNOTATION_PREFIX}keys.`;

/** Writes a comma list. */
export function formatWrappedKeys(elements: readonly Uint8Array[]): string {
  return elements.map((element) => encodeBase64(element)).join(',');
}

/**
 * Reads a comma list.
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function parseWrappedKeys(list: string): Uint8Array[] {
  if (list.length > MAX_ANNOTATION_BYTES) {
    throw new LatchkeyError(
      'LIMIT_EXCEEDED',
      `the wrapped keys are longer than ${MAX_ANNOTATION_BYTES} bytes`,
    );
  }
  const parts = list.split(',');
  if (parts.length > MAX_WRAPPED_KEYS) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `a layer has more than ${MAX_WRAPPED_KEYS} wrapped keys`);
  }
  return parts.map((part) => {
    const bytes = decodeBase64(part);
    if (bytes !== undefined && bytes.length > 0) return bytes;
    throw new LatchkeyError('INPUT_MALFORMED', 'a wrapped key is not base64');
  });
}

/**
 * Reads the public options of an encrypted layer.
 * @throws LatchkeyError INPUT_MALFORMED, INPUT_UNSUPPORTED
 */
export function publicOptionsOf(annotations: Annotations | undefined): PublicLayerOptions {
  const value = annotations?.[PUBLIC_OPTIONS_ANNOTATION];
  const bytes = value === undefined || value.length > MAX_ANNOTATION_BYTES ? undefined : decodeBase64(value);
  if (bytes === undefined) {
    throw new LatchkeyError('INPUT_MALFORMED', 'the encrypted layer has no readable public options', {
      hint: `the annotation ${PUBLIC_OPTIONS_ANNOTATION} is missing or not base64`,
    });
  }
  return parsePublicOptions(bytes);
}

/** The scheme names of a layer's wrapped keys, such as `jwe` or `provider.latchkey`, sorted. */
export function schemesOf(annotations: Annotations | undefined): string[] {
  return Object.keys(annotations ?? {})
    .filter((name) => name.startsWith(WRAPPED_KEYS_PREFIX))
    .map((name) => name.slice(WRAPPED_KEYS_PREFIX.length))
    .sort();
}

/** The annotations without those of layer encryption; undefined when none are left. */
export function withoutEncryption(annotations: Annotations | undefined): Annotations | undefined {
  const kept = Object.entries(annotations ?? {}).filter(
    ([name]) => !name.startsWith(ENCRYPTION_ANNOTATION_PREFIX),
  );
  return kept.length === 0 ? undefined : Object.fromEntries(kept);
}

/** Makes the annotations of a newly encrypted layer: one element per wrapper. */
export async function wrapLayerKey(
  privateOptions: Uint8Array,
  publicOptions: PublicLayerOptions,
  wrappers: readonly KeyWrapper[],
): Promise<Annotations> {
  const elements = new Map<string, Uint8Array[]>();
  for (const wrapper of wrappers) {
    const list = elements.get(wrapper.annotation) ?? [];
    list.push(await wrapper.wrap(privateOptions));
    elements.set(wrapper.annotation, list);
  }
  const lists = [...elements].map(([name, list]) => [name, formatWrappedKeys(list)] as const);
  return {
    ...Object.fromEntries(lists),
    [PUBLIC_OPTIONS_ANNOTATION]: encodeBase64(formatPublicOptions(publicOptions)),
  };
}

/** What came of one scheme of a layer: an error, no key of this scheme, or only keys it is not wrapped for. */
export interface SchemeOutcome {
  /** `jwe`, `provider.latchkey` ... */
  readonly scheme: string;
  readonly outcome: LatchkeyError | 'no key given' | 'not for these keys';
}

/**
 * Opens the first element that one of the keys fits. All are tried: a damaged element or a token that is away
 * does not keep another key from opening the layer.
 * @returns the private options, or what came of every scheme of the layer
 * @throws LatchkeyError INTERRUPTED
 */
export async function openLayerKey(
  annotations: Annotations | undefined,
  unwrappers: readonly KeyUnwrapper[],
): Promise<Uint8Array | readonly SchemeOutcome[]> {
  const outcomes: SchemeOutcome[] = [];
  for (const scheme of schemesOf(annotations)) {
    const annotation = `${WRAPPED_KEYS_PREFIX}${scheme}`;
    const fitting = unwrappers.filter((unwrapper) => unwrapper.annotation === annotation);
    let outcome: SchemeOutcome['outcome'] = fitting.length === 0 ? 'no key given' : 'not for these keys';
    for (const unwrapper of fitting) {
      const opened = await openList(annotations?.[annotation] ?? '', unwrapper);
      if (opened instanceof Uint8Array) return opened;
      if (opened !== null && typeof outcome === 'string') outcome = opened;
    }
    outcomes.push({ scheme, outcome });
  }
  return outcomes;
}

/** Tries every element with one key. */
async function openList(list: string, unwrapper: KeyUnwrapper): Promise<Uint8Array | LatchkeyError | null> {
  let firstError: LatchkeyError | null = null;
  try {
    for (const element of parseWrappedKeys(list)) {
      try {
        const privateOptions = await unwrapper.unwrap(element);
        if (privateOptions === null) continue;
        // Anybody can wrap anything for a public key; what is no layer key must not hide the real one.
        parsePrivateOptions(privateOptions);
        return privateOptions;
      } catch (error) {
        const known = toLatchkeyError(error);
        // A wrong PIN, tried once for each element, would lock the token.
        if (!isAboutElement(known)) throw known;
        firstError ??= known;
      }
    }
  } catch (error) {
    const known = toLatchkeyError(error);
    if (known.code === 'INTERRUPTED' || known.code === 'BUG_UNEXPECTED') throw known;
    firstError ??= known;
  }
  return firstError;
}

/** A key provider cannot say "not mine", so what it refuses may be another's. */
function isAboutElement({ code }: LatchkeyError): boolean {
  return /^(?:INPUT_|CRYPTO_|LIMIT_EXCEEDED$|KEY_PROVIDER_FAILED$)/.test(code);
}

/**
 * Opens the first element that one of the keys fits; all are tried.
 * @returns the private options; null when none is for these keys
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED, CRYPTO_AUTHENTICATION_FAILED, and what a key raises, when
 *   none opens and one should have
 */
export async function unwrapLayerKey(
  annotations: Annotations | undefined,
  unwrappers: readonly KeyUnwrapper[],
): Promise<Uint8Array | null> {
  const opened = await openLayerKey(annotations, unwrappers);
  if (opened instanceof Uint8Array) return opened;
  const failed = opened.find(({ outcome }) => outcome instanceof LatchkeyError);
  if (failed?.outcome instanceof LatchkeyError) throw failed.outcome;
  return null;
}
