/** An image with only some of its platforms; pure. Attestations of platforms that go, go with them. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { type Platform, formatPlatform } from '#src/oci/platform.ts';
import type { WalkOptions } from '#src/store/graph.ts';
import { REFERENCE_DIGEST_ANNOTATION, describeArtifact } from './attestations.ts';
import { type ImageGraph, platformImages, platformName } from './image-graph.ts';

/** A platform as people ask for it; without a variant, any. */
export interface PlatformRequest {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string | undefined;
}

const PLATFORM_PATTERN = /^([a-z0-9_.-]+)\/([a-z0-9_.-]+)(?:\/([a-z0-9_.-]+))?$/i;

/**
 * Reads `os/arch[/variant]`.
 * @throws LatchkeyError USAGE_INVALID
 */
export function parsePlatform(text: string): PlatformRequest {
  const [, os, architecture, variant] = PLATFORM_PATTERN.exec(text) ?? [];
  if (os !== undefined && architecture !== undefined) return { os, architecture, variant };
  throw new LatchkeyError('USAGE_INVALID', `${JSON.stringify(text.slice(0, 100))} is not a platform`, {
    hint: 'write os/arch or os/arch/variant: linux/amd64, linux/arm/v7',
  });
}

/**
 * Tells which entries of an index need to be read for these platforms; undefined when all do. So those of other platforms
 * need not even be there, as in a copy of some platforms only.
 */
export function wantedEntries(wanted: readonly PlatformRequest[]): WalkOptions['isWanted'] {
  if (wanted.length === 0) return undefined;
  return (entry, siblings) => {
    const about = siblings.find(({ digest }) => digest === entry.annotations?.[REFERENCE_DIGEST_ANNOTATION]);
    const { platform } = about ?? entry;
    if (platform === undefined || platform.os === UNKNOWN_OS) return true;
    return wanted.some((request) => isWanted(platform, request));
  };
}

/** BuildKit's platform of what is no image. */
const UNKNOWN_OS = 'unknown';

/**
 * Leaves only the wanted platforms in an image. Indexes keep their other fields; one that is left empty goes.
 * @throws LatchkeyError USAGE_INVALID naming the platforms there are
 */
export function selectPlatforms(graph: ImageGraph, wanted: readonly PlatformRequest[]): ImageGraph {
  if (wanted.length === 0) return graph;
  const images = platformImages(graph);
  const unread = unreadEntries(graph);
  for (const request of wanted) {
    if (images.some(({ platform }) => isWanted(platform, request))) continue;
    const others = unread.flatMap(({ platform }) =>
      platform === undefined ? [] : [formatPlatform(platform)],
    );
    const there = [...new Set([...images.map(platformName), ...others])].join(', ');
    throw new LatchkeyError('USAGE_INVALID', `the image has no platform ${requestName(request)}`, {
      hint: `it has ${there}`,
    });
  }
  const unwanted = images.filter(({ platform }) => !wanted.some((request) => isWanted(platform, request)));
  const gone = new Set<Digest>([
    ...unread.map(({ digest }) => digest),
    ...unwanted.map(({ blob }) => blob.descriptor.digest),
  ]);
  // Children come before the index that names them, and an artifact may come before what it is about.
  const aboutGone = (digest: Digest | undefined) => digest !== undefined && gone.has(digest);
  for (let before = -1; before < gone.size;) {
    before = gone.size;
    for (const node of graph.nodes) {
      const isGone =
        (node.kind === 'artifact' && aboutGone(describeArtifact(node).about)) ||
        (node.kind === 'index' && node.index.manifests.every(({ digest }) => gone.has(digest)));
      if (isGone) gone.add(node.blob.descriptor.digest);
    }
  }
  return { ...graph, nodes: graph.nodes.filter(({ blob }) => !gone.has(blob.descriptor.digest)) };
}

function unreadEntries({ nodes }: ImageGraph): Descriptor[] {
  const read = new Set(nodes.map(({ blob }) => blob.descriptor.digest));
  const entries = nodes.flatMap((node) => (node.kind === 'index' ? node.index.manifests : []));
  return entries.filter(({ digest, platform }) => !read.has(digest) && platform?.os !== UNKNOWN_OS);
}

function isWanted(platform: Platform, { os, architecture, variant }: PlatformRequest): boolean {
  if (platform.os !== os || platform.architecture !== architecture) return false;
  return variant === undefined || (platform.variant ?? defaultVariant(architecture)) === variant;
}

/** arm64 has one variant, which most builders leave out (OCI image spec, "Platform Variants"). */
function defaultVariant(architecture: string): string | undefined {
  return architecture === 'arm64' ? 'v8' : undefined;
}

function requestName({ os, architecture, variant }: PlatformRequest): string {
  return [os, architecture, variant].filter((part) => part !== undefined).join('/');
}
