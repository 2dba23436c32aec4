/** How an ISV says which layers are encrypted, and what that means for one layer; pure. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import { type ImageGraph, type PlatformImage, platformImages, platformName } from './image-graph.ts';

/** An image whose layers anybody may have. */
export interface BaseImage {
  readonly name: string;
  readonly graph: ImageGraph;
}

export type LayerSelection =
  | { readonly kind: 'default' }
  | { readonly kind: 'all' }
  /** Positions from 0 at the base; negative ones count from the end. */
  | { readonly kind: 'layers'; readonly positions: readonly number[] }
  /** What is shared with these images stays plain. */
  | { readonly kind: 'base'; readonly bases: readonly BaseImage[] };

export interface LayerChoice {
  readonly isEncrypted: boolean;
  readonly reason: string;
}

/**
 * Reads a selection once, for all layers.
 * @returns a function that raises LatchkeyError USAGE_INVALID when the selection does not fit the image
 */
export function selectLayers(
  selection: LayerSelection,
): (image: PlatformImage, position: number) => LayerChoice {
  switch (selection.kind) {
    case 'default':
      return () => ({ isEncrypted: true, reason: 'all layers, as nothing else was chosen' });
    case 'all':
      return () => ({ isEncrypted: true, reason: '--all-layers' });
    case 'layers':
      return (image, position) => {
        const positions = selection.positions.map((given) => resolvePosition(image, given));
        return positions.includes(position)
          ? { isEncrypted: true, reason: '--layer' }
          : { isEncrypted: false, reason: 'not chosen by --layer' };
      };
    case 'base':
      return notIn(selection.bases);
  }
}

function notIn(bases: readonly BaseImage[]): (image: PlatformImage, position: number) => LayerChoice {
  const baseOf = new Map(
    bases.flatMap(({ name, graph }) =>
      platformImages(graph).flatMap((image) =>
        identitiesOf(image).map((identity) => [identity, name] as const),
      ),
    ),
  );
  const names = bases.map(({ name }) => name).join(', ');
  return (image, position) => {
    const [name] = layerIdentities(image, position).flatMap((identity) => baseOf.get(identity) ?? []);
    return name === undefined
      ? { isEncrypted: true, reason: `not in ${names}` }
      : { isEncrypted: false, reason: `shared with ${name}` };
  };
}

function identitiesOf(image: PlatformImage): Digest[] {
  return image.manifest.layers.flatMap((_layer, position) => layerIdentities(image, position));
}

/** A layer is the same when its content is (diff ID), however it was compressed. */
function layerIdentities(image: PlatformImage, position: number): Digest[] {
  return [image.diffIds[position], image.manifest.layers[position]?.digest].filter(
    (digest) => digest !== undefined,
  );
}

function resolvePosition(image: PlatformImage, given: number): number {
  const count = image.manifest.layers.length;
  const position = given < 0 ? count + given : given;
  if (position >= 0 && position < count) return position;
  throw new LatchkeyError(
    'USAGE_INVALID',
    `there is no layer ${given}: the image for ${platformName(image)} has ${count} layers`,
    { hint: `use 0 to ${count - 1} from the base up, or -1 to -${count} from the top down` },
  );
}
