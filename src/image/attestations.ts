/**
 * Artifacts beside an image: what they are and what they are about. BuildKit puts attestations (in-toto statements with
 * an SBOM or the provenance of the build) into the index of the image; other tools name their image as `subject`.
 * Only descriptors and manifests are read: what a stranger's SBOM unpacks to is never looked at.
 */
import { type Digest, isDigest } from '#src/oci/digest.ts';
import { isEncrypted } from '#src/oci/media-types.ts';
import type { ArtifactNode } from './image-graph.ts';

/** BuildKit, docs/attestations/attestation-storage.md. */
export const REFERENCE_TYPE_ANNOTATION = 'vnd.docker.reference.type';
export const REFERENCE_DIGEST_ANNOTATION = 'vnd.docker.reference.digest';
const ATTESTATION_MANIFEST = 'attestation-manifest';
const PREDICATE_TYPE_ANNOTATION = 'in-toto.io/predicate-type';

/** Media and artifact types of documents that tell what is in an image or how it was built. */
const ATTESTATION_TYPE =
  /^(?:application\/vnd\.in-toto\b|application\/vnd\.docker\.attestation\b|application\/vnd\.dsse\b|application\/vnd\.dev\.sigstore\.bundle\b|application\/vnd\.syft\b|(?:application|text)\/(?:vnd\.)?(?:spdx|cyclonedx)\b)/;

export interface ArtifactDescription {
  readonly isAttestation: boolean;
  /** True when every document in it is encrypted. */
  readonly isEncrypted: boolean;
  /** The manifest it describes, when it says so. */
  readonly about: Digest | undefined;
  /** What is in it: `SBOM`, `provenance`, a predicate type, or a media type. */
  readonly contents: readonly string[];
}

/** Says what an artifact is. */
export function describeArtifact({ entry, manifest }: ArtifactNode): ArtifactDescription {
  const types = [manifest.artifactType, entry?.artifactType, manifest.config.mediaType].concat(
    manifest.layers.map(({ mediaType }) => mediaType),
  );
  const isAttestation =
    entry?.annotations?.[REFERENCE_TYPE_ANNOTATION] === ATTESTATION_MANIFEST ||
    types.some((type) => type !== undefined && ATTESTATION_TYPE.test(type));
  const contents = manifest.layers.map(({ annotations, mediaType }) =>
    contentName(annotations?.[PREDICATE_TYPE_ANNOTATION] ?? tellingType(mediaType, manifest.artifactType)),
  );
  const named = entry?.annotations?.[REFERENCE_DIGEST_ANNOTATION];
  return {
    isAttestation,
    isEncrypted: manifest.layers.length > 0 && manifest.layers.every((layer) => isEncrypted(layer.mediaType)),
    about: manifest.subject?.digest ?? (isDigest(named) ? named : undefined),
    contents: [...new Set(contents.length === 0 ? [manifest.artifactType ?? 'empty'] : contents)],
  };
}

/** True for the media type of a document that tells what is in an image or how it was built. */
export function isAttestationType(mediaType: string): boolean {
  return ATTESTATION_TYPE.test(mediaType);
}

/** Tools that give a document a general type, such as JSON, say what it is in the artifact's. */
function tellingType(mediaType: string, artifactType: string | undefined): string {
  const isSaidAbove = artifactType !== undefined && ATTESTATION_TYPE.test(artifactType);
  return isSaidAbove && !ATTESTATION_TYPE.test(mediaType) ? artifactType : mediaType;
}

function contentName(type: string): string {
  if (/spdx|cyclonedx|syft/i.test(type)) return 'SBOM';
  if (/provenance/i.test(type)) return 'provenance';
  return type;
}
