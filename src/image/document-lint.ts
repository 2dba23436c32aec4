/**
 * Secrets anywhere in a JSON document, whatever the field is called: builders and plug-ins add fields of their own, and
 * all of them are readable. Pure.
 */
import { type SecretSighting, secretsInPair, unnamedSecretsIn } from './secret-shapes.ts';

export type FieldSighting = SecretSighting & {
  /** Where it is: `Env`, `annotation`, `history 3`, or a path such as `config.Volumes`. */
  readonly field: string;
};

/** Keys and positions from the top of the document. */
export type DocumentPath = readonly string[];

/**
 * Looks at every text of a document: values as what their keys call them, names of keys, and entries of lists.
 * @param isCovered true for a value that the caller looks at itself; its key is looked at all the same
 */
export function lintDocument(
  document: unknown,
  isCovered: (path: DocumentPath) => boolean = () => false,
): FieldSighting[] {
  return lintValue(document, [], isCovered);
}

function lintValue(
  value: unknown,
  path: DocumentPath,
  isCovered: (path: DocumentPath) => boolean,
): FieldSighting[] {
  if (path.length > 0 && isCovered(path)) return [];
  if (typeof value === 'string') return lintString(value, path);
  if (typeof value !== 'object' || value === null) return [];
  const isList = Array.isArray(value);
  return Object.entries(value).flatMap(([key, child]) => {
    const inName = isList
      ? []
      : unnamedSecretsIn(key).map((sighting) => ({ ...sighting, field: fieldAt(path) }));
    return [...inName, ...lintValue(child, [...path, key], isCovered)];
  });
}

function lintString(text: string, path: DocumentPath): FieldSighting[] {
  const above = path.slice(0, -1);
  const name = path.at(-1) ?? '';
  const isListed = /^\d+$/.test(name);
  // Entries of lists have no name of their own.
  const sightings = isListed ? unnamedSecretsIn(text) : secretsInPair(name, text);
  return sightings.map((sighting) => ({ ...sighting, field: fieldAt(above) }));
}

function fieldAt(path: DocumentPath): string {
  if (path.at(-1) === 'annotations') return 'annotation';
  return path.length === 0 ? 'field' : path.join('.');
}
