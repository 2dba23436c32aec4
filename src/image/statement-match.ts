/** Whether an image is the one a statement tells of, and if not, what was done to it. Pure. */
import type { Digest } from '#src/oci/digest.ts';
import { type Platform, formatPlatform } from '#src/oci/platform.ts';
import type { ImageDescription, ReleaseStatement, StatementImage, StatementLayer } from './statement.ts';

export interface Alteration {
  readonly kind:
    | 'unknown-manifest'
    | 'missing-manifest'
    | 'replaced-platform'
    | 'foreign-config'
    | 'layer-added'
    | 'layer-dropped'
    | 'layers-reordered'
    | 'layer-swapped'
    | 'layer-plain'
    | 'layer-changed';
  /** One clause for a person. */
  readonly text: string;
}

/** The image of one platform as somebody has it; it need not say for which platform it is. */
export type FoundImage = Omit<StatementImage, 'platform'> & { readonly platform?: Platform | undefined };

/**
 * What is wrong with the image of one platform; empty when it is as the statement says.
 * @param platform for which it is used; an image of the release for another platform may not stand in for it
 */
export function imageAlterations(
  statement: ReleaseStatement,
  image: FoundImage,
  platform?: Pick<Platform, 'os' | 'architecture'>,
): Alteration[] {
  const released = statement.images.find(({ manifest }) => manifest === image.manifest);
  if (released === undefined) {
    const counterpart = counterpartOf(statement, image, platform);
    const differences = counterpart === undefined ? [] : contentAlterations(counterpart, image);
    if (differences.length > 0) return differences;
    return [{ kind: 'unknown-manifest', text: `the manifest ${image.manifest} is not of this release` }];
  }
  return [...platformAlterations(statement, released, platform), ...contentAlterations(released, image)];
}

/** What is wrong with a whole image; empty when it is as the statement says. */
export function releaseAlterations(statement: ReleaseStatement, found: ImageDescription): Alteration[] {
  const alterations = found.images.flatMap((image) =>
    imageAlterations(statement, image, image.platform).map(({ kind, text }) => ({
      kind,
      text: `${formatPlatform(image.platform)}: ${text}`,
    })),
  );
  const released = new Set<Digest>(statement.manifests);
  const present = new Set<Digest>(found.manifests);
  const added = found.manifests.filter((digest) => !released.has(digest));
  const missing = statement.manifests.filter((digest) => !present.has(digest));
  return [
    ...alterations,
    ...added.map(
      (digest) =>
        ({ kind: 'unknown-manifest', text: `the manifest ${digest} is not of this release` }) as const,
    ),
    ...missing.map(
      (digest) => ({ kind: 'missing-manifest', text: `the manifest ${digest} is missing` }) as const,
    ),
  ];
}

/** The released image that a forged one was most likely made from: for the same platform, else with most of its layers. */
function counterpartOf(
  statement: ReleaseStatement,
  image: FoundImage,
  platform: Pick<Platform, 'os' | 'architecture'> | undefined,
): StatementImage | undefined {
  const digests = new Set(image.layers.map(({ digest }) => digest));
  const score = (released: StatementImage): number =>
    released.layers.filter(({ digest }) => digests.has(digest)).length * 2 +
    (released.config === image.config ? 2 : 0) +
    (isFor(released.platform, image.platform ?? platform) ? 1 : 0);
  const [best] = [...statement.images].sort((left, right) => score(right) - score(left));
  return best !== undefined && score(best) > 0 ? best : undefined;
}

function platformAlterations(
  statement: ReleaseStatement,
  released: StatementImage,
  platform: Pick<Platform, 'os' | 'architecture'> | undefined,
): Alteration[] {
  if (platform === undefined || isFor(released.platform, platform)) return [];
  // A release for one platform only runs where its vendor lets it; there is nothing it could stand in for.
  if (!statement.images.some((other) => isFor(other.platform, platform))) return [];
  const is = formatPlatform(released.platform);
  return [
    {
      kind: 'replaced-platform',
      text: `the image for ${is} stands in for the one for ${formatPlatform(platform)}`,
    },
  ];
}

function isFor(platform: Platform, wanted: Pick<Platform, 'os' | 'architecture'> | undefined): boolean {
  return platform.os === wanted?.os && platform.architecture === wanted.architecture;
}

function contentAlterations(released: StatementImage, image: FoundImage): Alteration[] {
  const config: Alteration[] =
    released.config === image.config
      ? []
      : [{ kind: 'foreign-config', text: `the config ${image.config} is not the released one` }];
  return [...layerAlterations(released.layers, image.layers), ...config];
}

function layerAlterations(
  released: readonly StatementLayer[],
  found: readonly StatementLayer[],
): Alteration[] {
  const foundDigests = found.map(({ digest }) => digest);
  const isSameSet =
    released.length === found.length &&
    [...released.map(({ digest }) => digest)].sort().join() === [...foundDigests].sort().join();
  if (isSameSet && released.some(({ digest }, position) => digest !== foundDigests[position])) {
    return [{ kind: 'layers-reordered', text: 'its layers are in another order' }];
  }
  const alterations: Alteration[] = [];
  const [longer, kind] =
    found.length > released.length
      ? ([found, 'layer-added'] as const)
      : ([released, 'layer-dropped'] as const);
  const shorter = new Set((longer === found ? released : found).map(({ digest }) => digest));
  if (found.length !== released.length) {
    longer.forEach(({ digest }, position) => {
      if (shorter.has(digest)) return;
      const what = kind === 'layer-added' ? 'was added' : 'was dropped';
      alterations.push({ kind, text: `layer ${position} (${digest}) ${what}` });
    });
    if (alterations.length > 0) return alterations;
  }
  for (const [position, layer] of released.entries()) {
    const alteration = layerAlteration(layer, found[position], position);
    if (alteration !== undefined) alterations.push(alteration);
  }
  if (alterations.length === 0 && found.length > released.length) {
    alterations.push({ kind: 'layer-added', text: `it has ${found.length} layers, not ${released.length}` });
  }
  return alterations;
}

function layerAlteration(
  released: StatementLayer,
  found: StatementLayer | undefined,
  position: number,
): Alteration | undefined {
  const name = `layer ${position}`;
  if (found === undefined) {
    return { kind: 'layer-dropped', text: `${name} (${released.digest}) was dropped` };
  }
  if (released.isEncrypted && !found.isEncrypted) {
    return { kind: 'layer-plain', text: `${name} was replaced by one that is not encrypted` };
  }
  if (released.digest !== found.digest || released.diffId !== found.diffId) {
    return { kind: 'layer-swapped', text: `${name} was replaced by ${found.digest}` };
  }
  const isSame =
    released.mediaType === found.mediaType &&
    released.sizeBytes === found.sizeBytes &&
    released.isEncrypted === found.isEncrypted &&
    [...released.imageKeyIds].sort().join() === [...found.imageKeyIds].sort().join();
  return isSame ? undefined : { kind: 'layer-changed', text: `${name} has another type, size or key` };
}
