/**
 * The annotations of an encrypted layer (ocicrypt encryption.go): public options, and per scheme a comma list of
 * base64 elements. Each later "add recipient" run of a peer appends an element.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_ANNOTATION_BYTES, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import { decodeBase64, encodeBase64 } from '#src/crypto/base64.ts';
import {
  type PublicLayerOptions,
  formatPublicOptions,
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

/**
 * Opens the first element that one of the keys fits.
 * @returns the private options; null when none is for these keys
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED, CRYPTO_AUTHENTICATION_FAILED
 */
export async function unwrapLayerKey(
  annotations: Annotations | undefined,
  unwrappers: readonly KeyUnwrapper[],
): Promise<Uint8Array | null> {
  for (const unwrapper of unwrappers) {
    const list = annotations?.[unwrapper.annotation];
    if (list === undefined) continue;
    for (const element of parseWrappedKeys(list)) {
      const privateOptions = await unwrapper.unwrap(element);
      if (privateOptions !== null) return privateOptions;
    }
  }
  return null;
}
