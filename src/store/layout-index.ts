/** The index.json of an image layout (OCI image spec, image-layout.md): which manifests it offers, by which names. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { isDigest } from '#src/oci/digest.ts';
import type { ImageIndex } from '#src/oci/index.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';

const REFERENCE_NAME = 'org.opencontainers.image.ref.name';

export const EMPTY_LAYOUT_INDEX: ImageIndex = {
  schemaVersion: 2,
  mediaType: MEDIA_TYPE.ociIndex,
  manifests: [],
};

/**
 * Finds the manifest that a tag or digest names.
 * @returns undefined for a digest that index.json does not list, since it may be nested deeper
 * @throws LatchkeyError STATE_NOT_FOUND, with the tags there are as a hint
 */
export function findInLayout(index: ImageIndex, reference: string, location: string): Descriptor | undefined {
  const { manifests } = index;
  if (isDigest(reference)) return manifests.find((entry) => entry.digest === reference);
  const matches = manifests.filter((entry) => referenceName(entry) === reference);
  if (matches.length > 0) return oneImage(matches, location, `images tagged "${reference}"`);
  throw new LatchkeyError('STATE_NOT_FOUND', `${location} has no tag "${reference}"`, {
    hint: listHint(manifests),
  });
}

/**
 * The only image among entries.
 * @throws LatchkeyError STATE_NOT_FOUND when there is none or several, with their names as a hint
 */
export function chooseInLayout(entries: readonly Descriptor[], location: string): Descriptor {
  if (entries.length > 0) return oneImage(entries, location, 'images');
  throw new LatchkeyError('STATE_NOT_FOUND', `${location} is empty`);
}

/** The same image under two names is one image. */
function oneImage(matches: readonly Descriptor[], location: string, which: string): Descriptor {
  const [first] = matches;
  if (first !== undefined && matches.every((entry) => entry.digest === first.digest)) return first;
  throw new LatchkeyError('STATE_NOT_FOUND', `${location} has several ${which}`, {
    hint: listHint(matches),
  });
}

/** The index with one more manifest; a tag moves from whatever had it before. */
export function withManifest(index: ImageIndex, descriptor: Descriptor, tag: string | undefined): ImageIndex {
  const entry: Descriptor =
    tag === undefined
      ? descriptor
      : { ...descriptor, annotations: { ...descriptor.annotations, [REFERENCE_NAME]: tag } };
  const others = index.manifests.filter((other) => {
    const name = referenceName(other);
    if (name === undefined) return other.digest !== descriptor.digest;
    return name !== tag;
  });
  const isNamedAlready = tag === undefined && others.some((other) => other.digest === descriptor.digest);
  return { ...index, manifests: isNamedAlready ? others : [...others, entry] };
}

/** The tag of an entry. */
export function referenceName(descriptor: Descriptor): string | undefined {
  return descriptor.annotations?.[REFERENCE_NAME];
}

function listHint(manifests: readonly Descriptor[]): string | undefined {
  if (manifests.length === 0) return undefined;
  const names = manifests.map((entry) => {
    const name = referenceName(entry);
    return name === undefined ? `@${entry.digest}` : `:${name}`;
  });
  return `name one of: ${[...new Set(names)].slice(0, 10).join(' ')}`;
}
