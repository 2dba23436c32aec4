/**
 * The wrapped keys of a layer as a list that a person can point into: `jwe#1` is the first element of its annotation,
 * `jwe#1.2` the second recipient inside that envelope. Pure.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { MAX_ANNOTATION_BYTES, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import {
  type Annotations,
  WRAPPED_KEYS_PREFIX,
  formatWrappedKeys,
  parseWrappedKeys,
  schemesOf,
} from './annotations.ts';
import { JWE_ANNOTATION, parseJwe } from './jwe.ts';
import { LATCHKEY_ANNOTATION, type LatchkeyElementHeader, parseElement } from './latchkey-element.ts';

/** One who can open a layer. */
export interface ListedElement {
  /** `jwe#1`, or `jwe#1.2` where an envelope says that it has several recipients. */
  readonly name: string;
  readonly scheme: string;
  /** Which of all elements of the layer it is, or is in; from 0. */
  readonly element: number;
  /** True for one of several recipients inside an envelope. */
  readonly isInside: boolean;
  /** Of an element for license holders. */
  readonly licensed?: LatchkeyElementHeader | undefined;
}

/**
 * Lists who can open a layer.
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function listElements(annotations: Annotations | undefined): ListedElement[] {
  const all = schemesOf(annotations).flatMap((scheme) =>
    elementsOf(annotations, scheme).map((bytes, index) => ({
      scheme,
      bytes,
      name: `${scheme}#${index + 1}`,
    })),
  );
  return all.flatMap(({ scheme, bytes, name }, element): ListedElement[] => {
    const annotation = `${WRAPPED_KEYS_PREFIX}${scheme}`;
    const common = { scheme, element };
    if (annotation === LATCHKEY_ANNOTATION) {
      return [{ ...common, name, isInside: false, licensed: parseElement(bytes).header }];
    }
    const count = annotation === JWE_ANNOTATION ? parseJwe(bytes).length : 1;
    if (count === 1) return [{ ...common, name, isInside: false }];
    return Array.from({ length: count }, (_value, at) => ({
      ...common,
      name: `${name}.${at + 1}`,
      isInside: true,
    }));
  });
}

/** An element, or a recipient inside of it, by the name in the list. */
export interface ElementName {
  readonly scheme: string;
  /** From 1. */
  readonly element: number;
  /** From 1; undefined = the whole element. */
  readonly recipient: number | undefined;
}

/**
 * Reads a name as the list shows it.
 * @throws LatchkeyError USAGE_INVALID
 */
export function parseElementName(text: string): ElementName {
  const match = /^([a-z0-9][a-z0-9._-]{0,127})#([1-9]\d{0,3})(?:\.([1-9]\d{0,3}))?$/i.exec(text);
  const [, scheme, element, recipient] = match ?? [];
  if (scheme !== undefined && element !== undefined) {
    return {
      scheme,
      element: Number(element),
      recipient: recipient === undefined ? undefined : Number(recipient),
    };
  }
  throw new LatchkeyError('USAGE_INVALID', `${JSON.stringify(text)} does not name a recipient`, {
    hint: 'write it as `latchkey recipients list` shows it, such as jwe#1, jwe#1.2 or provider.latchkey#1',
  });
}

/**
 * Takes elements out. Names of what the layer does not have are passed over.
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED, INPUT_UNSUPPORTED for a recipient inside an envelope of a scheme
 *   that has no such thing, or whose inside we do not see
 */
export function withoutElements(annotations: Annotations, names: readonly ElementName[]): Annotations {
  return schemesOf(annotations).reduce((left, scheme) => {
    const here = names.filter((name) => name.scheme === scheme);
    if (here.length === 0) return left;
    const kept = elementsOf(annotations, scheme).flatMap((element, index): Uint8Array[] => {
      const inside = here.filter((name) => name.element === index + 1);
      if (inside.some(({ recipient }) => recipient === undefined)) return [];
      const recipients = inside.flatMap(({ recipient }) => recipient ?? []);
      return recipients.length === 0 ? [element] : withoutRecipients(element, scheme, recipients);
    });
    return withList(left, `${WRAPPED_KEYS_PREFIX}${scheme}`, kept);
  }, annotations);
}

function withoutRecipients(element: Uint8Array, scheme: string, numbers: readonly number[]): Uint8Array[] {
  if (`${WRAPPED_KEYS_PREFIX}${scheme}` !== JWE_ANNOTATION) {
    throw new LatchkeyError('INPUT_UNSUPPORTED', `an element of ${scheme} cannot lose single recipients`, {
      hint: 'name the whole element, and give its other recipients again',
    });
  }
  const count = parseJwe(element).length;
  const isRemoved = (_recipient: unknown, index: number) => !numbers.includes(index + 1);
  const jwe = parseJson(element, 'the JWE') as { recipients?: unknown[] };
  if (jwe.recipients === undefined) return numbers.includes(1) ? [] : [element];
  const recipients = jwe.recipients.filter(isRemoved);
  if (recipients.length === 0) return [];
  if (recipients.length === count) return [element];
  // What peers write beside the list is the first recipient's, who may be the one that goes.
  const shared = Object.entries(jwe).filter(([name]) => !['encrypted_key', 'header'].includes(name));
  return [Buffer.from(JSON.stringify({ ...Object.fromEntries(shared), recipients }))];
}

/**
 * Appends the elements of newly made annotations to those a layer has.
 * @throws LatchkeyError LIMIT_EXCEEDED when peers would no longer read them
 */
export function withMoreElements(annotations: Annotations, added: Annotations): Annotations {
  return schemesOf(added).reduce((left, scheme) => {
    const elements = [...elementsOf(left, scheme), ...elementsOf(added, scheme)];
    return withList(left, `${WRAPPED_KEYS_PREFIX}${scheme}`, elements);
  }, annotations);
}

/** The element of an organization's license holders, or undefined; the last one, should there be several. */
export function licensedElement(
  annotations: Annotations | undefined,
  organizationId: string,
): Uint8Array | undefined {
  return elementsOf(annotations, 'provider.latchkey').findLast((element) => isOf(element, organizationId));
}

/** Puts one element in the place of all that are for an organization's license holders. */
export function withLicensedElement(
  annotations: Annotations,
  organizationId: string,
  element: Uint8Array,
): Annotations {
  const others = elementsOf(annotations, 'provider.latchkey').filter((other) => !isOf(other, organizationId));
  return withList(annotations, LATCHKEY_ANNOTATION, [...others, element]);
}

function isOf(element: Uint8Array, organizationId: string): boolean {
  return parseElement(element).header.organizationId === organizationId;
}

function elementsOf(annotations: Annotations | undefined, scheme: string): Uint8Array[] {
  const list = annotations?.[`${WRAPPED_KEYS_PREFIX}${scheme}`];
  return list === undefined ? [] : parseWrappedKeys(list);
}

function withList(
  annotations: Annotations,
  annotation: string,
  elements: readonly Uint8Array[],
): Annotations {
  const others = Object.fromEntries(Object.entries(annotations).filter(([name]) => name !== annotation));
  if (elements.length === 0) return others;
  const list = formatWrappedKeys(elements);
  if (elements.length <= MAX_WRAPPED_KEYS && list.length <= MAX_ANNOTATION_BYTES) {
    return { ...others, [annotation]: list };
  }
  throw new LatchkeyError('LIMIT_EXCEEDED', `a layer would have more than ${MAX_WRAPPED_KEYS} wrapped keys`, {
    hint: 'remove recipients that are no longer needed with `latchkey recipients remove`',
  });
}
