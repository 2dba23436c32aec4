/** What an encryption does to every part of an image, and why; pure, so that `--dry-run` shows exactly what a run does. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { MEDIA_TYPE, isDockerType } from '#src/oci/media-types.ts';
import {
  type ArtifactPlan,
  type AttestationChoice,
  attestationNotes,
  planArtifacts,
} from './attestation-plan.ts';
import { type LeakFinding, lintImage } from './config-lint.ts';
import { type ImageGraph, type PlatformImage, platformImages, platformName } from './image-graph.ts';
import { type LayerPlan, planLayer } from './layer-plan.ts';
import { type LayerSelection, selectLayers } from './layer-selection.ts';

export interface PlatformPlan {
  readonly image: PlatformImage;
  readonly platform: string;
  readonly layers: readonly LayerPlan[];
}

export interface EncryptionPlan {
  readonly platforms: readonly PlatformPlan[];
  readonly artifacts: readonly ArtifactPlan[];
  /** What looks like a secret and stays readable. */
  readonly leaks: readonly LeakFinding[];
  readonly isHistoryScrubbed: boolean;
  /** What the user may want to know before the run. */
  readonly notes: readonly string[];
}

export interface PlanOptions {
  /** What becomes of attestations; undecided without it. */
  readonly attestations?: AttestationChoice | undefined;
  readonly isHistoryScrubbed?: boolean | undefined;
}

/**
 * Plans the encryption of an image.
 * @throws LatchkeyError USAGE_INVALID for a selection that does not fit, INPUT_UNSUPPORTED for a layer we cannot encrypt
 */
export function planEncryption(
  graph: ImageGraph,
  selection: LayerSelection,
  options: PlanOptions = {},
): EncryptionPlan {
  const choose = selectLayers(selection);
  const isExplicit = selection.kind === 'layers';
  const platforms = platformImages(graph).map((image): PlatformPlan => {
    const layers = image.manifest.layers.map((_layer, position) =>
      planLayer(image, position, choose(image, position), isExplicit),
    );
    return { image, platform: platformName(image), layers };
  });
  if (!platforms.some(({ layers }) => layers.some((layer) => layer.isEncrypted))) {
    const reasons = [...new Set(platforms.flatMap(({ layers }) => layers.map(({ reason }) => reason)))];
    const why = reasons.slice(0, MAX_SHOWN_REASONS).join('; ');
    throw new LatchkeyError('USAGE_INVALID', `no layer is left to encrypt: ${why}`, {
      hint: 'choose layers with --layer or --all-layers; `latchkey inspect` lists them',
    });
  }
  const isHistoryScrubbed = options.isHistoryScrubbed === true;
  const artifacts = planArtifacts(graph, options.attestations);
  requireNoPlainCopy(platforms, artifacts);
  return {
    platforms,
    artifacts,
    leaks: lintImage(graph, isHistoryScrubbed),
    isHistoryScrubbed,
    notes: [
      ...formatNotes(graph),
      ...unknownNotes(graph),
      ...passedNotes(platforms),
      ...volumeNotes(platforms),
      ...attestationNotes(artifacts),
    ],
  };
}

/** Of as many layers; the dry run of a plan that works shows all. */
const MAX_SHOWN_REASONS = 3;

/** What is encrypted at one place and plain at another one is readable by anybody. */
function requireNoPlainCopy(platforms: readonly PlatformPlan[], artifacts: readonly ArtifactPlan[]): void {
  const layers = platforms.flatMap((plan) =>
    plan.layers.map((layer) => ({ layer, platform: plan.platform })),
  );
  const chosen = layers.map(({ layer }) => layer).filter((layer) => layer.isEncrypted);
  const documents = artifacts
    .flatMap((artifact) => artifact.documents)
    .filter(({ descriptor }) => descriptor.mediaType !== MEDIA_TYPE.ociEmpty);
  const digests = new Set<Digest | undefined>(
    [...chosen, ...documents].flatMap((layer) => [layer.descriptor.digest, layer.diffId]),
  );
  const kept = artifacts.filter(({ action }) => action === 'keep');
  const shown = kept.find(({ node: { manifest } }) =>
    [manifest.config, ...manifest.layers].some(({ digest }) => digests.has(digest)),
  );
  if (shown !== undefined) {
    throw new LatchkeyError(
      'USAGE_INVALID',
      `the artifact ${shown.node.blob.descriptor.digest} (${shown.title}) would stay plain, but has a copy of what is to be encrypted in it`,
      { hint: 'take it out of the image, such as a build cache that was exported into it' },
    );
  }
  const copy = layers.find(
    ({ layer }) => !layer.isEncrypted && (digests.has(layer.descriptor.digest) || digests.has(layer.diffId)),
  );
  if (copy === undefined) return;
  throw new LatchkeyError(
    'USAGE_INVALID',
    `layer ${copy.layer.position} of ${copy.platform} would stay plain, but is a copy of a layer to encrypt`,
    { hint: 'choose it with --layer too, or neither of them' },
  );
}

/** Everything in a plan that decides what the result is: equal for equal results of the same source. */
export function planIdentity({ platforms, artifacts, isHistoryScrubbed }: EncryptionPlan): unknown {
  return {
    platforms: platforms.map(({ image, layers }) => [
      image.blob.descriptor.digest,
      ...layers.map((layer) => layer.isEncrypted),
    ]),
    artifacts: artifacts.map(({ node, action }) => [node.blob.descriptor.digest, action]),
    isHistoryScrubbed,
  };
}

/** How much of the image is encrypted, taken over or left plain; a layer that platforms share counts once. */
export function planTotals({ platforms, artifacts }: EncryptionPlan): {
  readonly encryptedBytes: number;
  readonly reusedBytes: number;
  readonly plainBytes: number;
} {
  const sizes = {
    encrypted: new Map<Digest, number>(),
    reused: new Map<Digest, number>(),
    plain: new Map<Digest, number>(),
  };
  const add = ({ digest, size }: Descriptor, kind: keyof typeof sizes) => sizes[kind].set(digest, size);
  for (const layer of platforms.flatMap(({ layers }) => layers)) {
    if (!layer.isEncrypted) add(layer.descriptor, 'plain');
    else if (layer.reuse === undefined) add(layer.descriptor, 'encrypted');
    else add(layer.reuse.descriptor, 'reused');
  }
  for (const { node, action } of artifacts) {
    if (action === 'drop') continue;
    node.manifest.layers.forEach((layer) => add(layer, action === 'encrypt' ? 'encrypted' : 'plain'));
  }
  const sum = (map: ReadonlyMap<Digest, number>) =>
    [...map.values()].reduce((total, size) => total + size, 0);
  return {
    encryptedBytes: sum(sizes.encrypted),
    reusedBytes: sum(sizes.reused),
    plainBytes: sum(sizes.plain),
  };
}

function formatNotes(graph: ImageGraph): string[] {
  const isDocker = graph.nodes.some(
    (node) =>
      isDockerType(node.blob.descriptor.mediaType) ||
      (node.kind === 'image' && node.manifest.layers.some(({ mediaType }) => isDockerType(mediaType))),
  );
  return isDocker
    ? ["the image is in Docker's format; the result is in OCI format, which can be encrypted"]
    : [];
}

function unknownNotes({ nodes }: ImageGraph): string[] {
  const types = nodes.flatMap(({ kind, blob }) => (kind === 'opaque' ? [blob.descriptor.mediaType] : []));
  return [...new Set(types)].map(
    (type) => `what the index names as ${type} passes through untouched, readable by anybody`,
  );
}

function passedNotes(platforms: readonly PlatformPlan[]): string[] {
  return platforms.flatMap(({ platform, layers }) =>
    layers.flatMap((layer) =>
      !layer.isEncrypted && layer.isPassedThrough
        ? [
            `layer ${layer.position} of ${platform} passes through untouched, readable by anybody: ${layer.reason}`,
          ]
        : [],
    ),
  );
}

function volumeNotes(platforms: readonly PlatformPlan[]): string[] {
  return platforms.flatMap(({ platform, image }) => {
    const paths = Object.keys(image.config.config?.Volumes ?? {});
    if (paths.length === 0) return [];
    const shown = paths.slice(0, MAX_SHOWN_REASONS).map((path) => JSON.stringify(path));
    const more = paths.length > shown.length ? ` and ${paths.length - shown.length} more` : '';
    return [
      `${platform} declares volumes (${shown.join(', ')}${more}): what the image has there is put onto the customer's disk, ` +
        'readable, when it starts; keep what is worth encrypting elsewhere',
    ];
  });
}
