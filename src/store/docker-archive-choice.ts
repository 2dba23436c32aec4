/** Which image of a docker archive is meant: by name, by number, or the only one. */
import { LatchkeyError } from '#src/base/errors.ts';
import { formatReference, parseReference } from '#src/oci/reference.ts';

/** An entry of the archive's manifest.json. */
export interface SavedImage {
  /** File of the image's config. */
  readonly Config: string;
  /** Names as Docker shows them, `nginx:1.27`. */
  readonly RepoTags?: readonly string[] | null | undefined;
  /** Files of the layers, from the base up. */
  readonly Layers: readonly string[];
}

const SHOWN_NAMES = 10;

/**
 * Finds an image.
 * @param reference `NAME:TAG`, or `@N` counted from 0; undefined for the only image
 * @throws LatchkeyError STATE_NOT_FOUND, with the names there are as a hint
 */
export function chooseSavedImage(
  images: readonly SavedImage[],
  reference: string | undefined,
  location: string,
): SavedImage {
  const matches = reference === undefined ? images : matching(images, reference);
  const [first, ...others] = matches;
  // The same image under two names is one image.
  if (first !== undefined && others.every((other) => other.Config === first.Config)) return first;
  const message =
    first !== undefined
      ? `${location} has several images`
      : images.length === 0
        ? `${location} is empty`
        : `${location} has no image ${JSON.stringify(reference)}`;
  throw new LatchkeyError('STATE_NOT_FOUND', message, { hint: namesHint(images) });
}

function matching(images: readonly SavedImage[], reference: string): readonly SavedImage[] {
  if (reference.startsWith('@')) return images.slice(Number(reference.slice(1))).slice(0, 1);
  const wanted = formatReference(parseReference(reference));
  return images.filter(({ RepoTags }) => (RepoTags ?? []).some((name) => fullName(name) === wanted));
}

/** Docker leaves its own registry out; podman writes `localhost/`. */
function fullName(name: string): string | undefined {
  try {
    return formatReference(parseReference(name));
  } catch {
    return undefined;
  }
}

function namesHint(images: readonly SavedImage[]): string | undefined {
  if (images.length === 0) return undefined;
  const names = images.flatMap(({ RepoTags }, position) => {
    const tags = RepoTags ?? [];
    return tags.length === 0 ? [`@${position}`] : tags;
  });
  return `name one of: ${names
    .slice(0, SHOWN_NAMES)
    .map((name) => `:${name}`)
    .join(' ')}`;
}
