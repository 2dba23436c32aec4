/** What becomes of attestations and other artifacts of an image that is encrypted; pure. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import { isImageConfig } from '#src/oci/media-types.ts';
import { describeArtifact, isAttestationType } from './attestations.ts';
import { type ArtifactNode, type ImageGraph, platformImages, platformName } from './image-graph.ts';
import type { EncryptedLayerPlan, LayerPlan } from './layer-plan.ts';

/** What the ISV wants done with documents that tell what is in the plain image. */
export type AttestationChoice = 'keep' | 'drop' | 'encrypt';

export interface ArtifactPlan {
  readonly node: ArtifactNode;
  readonly isAttestation: boolean;
  /** `SBOM, provenance of linux/amd64`, with `(attached)` for one from outside the image */
  readonly title: string;
  /** `undecided`: an attestation in clear for which nothing was chosen. */
  readonly action: AttestationChoice | 'undecided';
  /** The documents to encrypt. */
  readonly documents: readonly EncryptedLayerPlan[];
}

/**
 * Plans for all artifacts; only attestations in clear are subject to the choice, everything else is kept.
 * @throws LatchkeyError INPUT_UNSUPPORTED for an attestation that cannot be encrypted as a whole
 */
export function planArtifacts(graph: ImageGraph, choice: AttestationChoice | undefined): ArtifactPlan[] {
  const platformOf = new Map<Digest, string>(
    platformImages(graph).map((image) => [image.blob.descriptor.digest, platformName(image)]),
  );
  return graph.nodes.flatMap((node): ArtifactPlan[] => {
    if (node.kind !== 'artifact') return [];
    const description = describeArtifact(node);
    const { isAttestation, about } = description;
    const platform = about === undefined ? undefined : platformOf.get(about);
    const contents = description.contents.join(', ');
    const action = isAttestation && !description.isEncrypted ? (choice ?? 'undecided') : 'keep';
    return [
      {
        node,
        isAttestation,
        title: titleOf(contents, platform, node),
        action,
        documents: action === 'encrypt' ? documentsOf(node) : [],
      },
    ];
  });
}

function titleOf(contents: string, platform: string | undefined, { isAttached }: ArtifactNode): string {
  const title = platform === undefined ? contents : `${contents} of ${platform}`;
  return isAttached === true ? `${title} (attached)` : title;
}

/** `{}`, as artifacts without a config have it. */
const EMPTY_CONFIG_BYTES = 2;

/** The layers; a config stays readable, so a document must not be there. */
function documentsOf({ blob, manifest }: ArtifactNode): EncryptedLayerPlan[] {
  const { mediaType, size } = manifest.config;
  if (!isImageConfig(mediaType) && size > EMPTY_CONFIG_BYTES) {
    throw new LatchkeyError(
      'INPUT_UNSUPPORTED',
      `the attestation ${blob.descriptor.digest} cannot be encrypted: it has content in its config (${mediaType})`,
      { hint: 'choose --attestations drop (leave it out) or keep (for anybody)' },
    );
  }
  return manifest.layers.map((descriptor, position) => ({
    position,
    descriptor,
    // Stored as it is: what it unpacks to, if anything, is not looked at.
    compression: 'none',
    diffId: descriptor.digest,
    isEncrypted: true,
    isSaltable: false,
    reason: '--attestations encrypt',
  }));
}

/**
 * Refuses to go on without the ISV's word about attestations in clear.
 * @throws LatchkeyError USAGE_INVALID, telling what was found
 */
export function requireAttestationChoice(artifacts: readonly ArtifactPlan[]): void {
  const undecided = artifacts.filter(({ action }) => action === 'undecided');
  if (undecided.length === 0) return;
  const found = [...new Set(undecided.map(({ title }) => title))].join('; ');
  throw new LatchkeyError(
    'USAGE_INVALID',
    `the image carries attestations in clear, which tell what is in it: ${found}`,
    {
      hint: 'choose --attestations drop (leave them out), encrypt (for those who can decrypt the image) or keep (for anybody)',
    },
  );
}

/**
 * Refuses attestations in clear that are layers of an image: there they can neither be left out nor be encrypted.
 * @throws LatchkeyError USAGE_INVALID unless they are to be kept
 */
export function requireKeptLayers(
  platforms: readonly { readonly platform: string; readonly layers: readonly LayerPlan[] }[],
  choice: AttestationChoice | undefined,
): void {
  if (choice === 'keep') return;
  for (const { platform, layers } of platforms) {
    const found = layers.find((layer) => !layer.isEncrypted && isAttestationType(layer.descriptor.mediaType));
    if (found === undefined) continue;
    throw new LatchkeyError(
      'USAGE_INVALID',
      `layer ${found.position} of ${platform} is an attestation in clear, which tells what is in the image: ${found.descriptor.mediaType}`,
      { hint: 'as a layer it can only stay: build without it, or choose --attestations keep (for anybody)' },
    );
  }
}

/** What is said about artifacts before the run. */
export function attestationNotes(artifacts: readonly ArtifactPlan[]): string[] {
  return artifacts.flatMap(({ isAttestation, action, title }) => {
    if (!isAttestation) return [`an artifact passes through untouched, readable by anybody: ${title}`];
    switch (action) {
      case 'keep':
        return [`an attestation is kept, readable by anybody who can pull: ${title}`];
      case 'drop':
        return [`an attestation is left out: ${title}`];
      case 'encrypt':
        return [`an attestation is encrypted to the same recipients: ${title}`];
      case 'undecided':
        return [`an attestation in clear needs --attestations keep, drop or encrypt: ${title}`];
    }
  });
}
