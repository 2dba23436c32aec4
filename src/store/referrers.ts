/**
 * Manifests that point at another one through `subject`, such as signatures (OCI image spec, manifest.md "subject";
 * distribution spec, "Listing Referrers"): what they are listed as, and the tag that lists them where a registry cannot.
 */
import type { Descriptor } from '#src/oci/descriptor.ts';
import { digestHex, type Digest } from '#src/oci/digest.ts';
import { parseImageDocument } from '#src/oci/document.ts';
import { isIndex, isManifest } from '#src/oci/media-types.ts';
import type { ManifestBlob } from './blob-store.ts';

const REFERRERS_TAG_PATTERN = /^sha256-[0-9a-f]{64}$/;

export interface Referrer {
  /** The manifest it is about. */
  readonly subject: Digest;
  /** As a list of referrers shows it: with artifact type and annotations. */
  readonly descriptor: Descriptor;
}

/**
 * Reads what a manifest refers to; undefined when it has no subject.
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function referrerIn({ descriptor, bytes }: ManifestBlob): Referrer | undefined {
  const { mediaType, digest, size } = descriptor;
  if (!isManifest(mediaType) && !isIndex(mediaType)) return undefined;
  const document = parseImageDocument(bytes, mediaType);
  const {
    subject,
    annotations,
    artifactType: stated,
  } = document.kind === 'index' ? document.index : document.manifest;
  if (subject === undefined) return undefined;
  // A manifest without a type of its own is known by its config's (distribution spec, "Listing Referrers").
  const isTyped = stated !== undefined && stated !== '';
  const fallback = document.kind === 'manifest' ? document.manifest.config.mediaType : undefined;
  const artifactType = isTyped ? stated : fallback;
  return {
    subject: subject.digest,
    descriptor: {
      mediaType,
      digest,
      size,
      ...(artifactType === undefined ? {} : { artifactType }),
      ...(annotations === undefined ? {} : { annotations }),
    },
  };
}

/** Each referrer once, and of one artifact type only when it is given. */
export function selectReferrers(
  descriptors: readonly Descriptor[],
  artifactType: string | undefined,
): readonly Descriptor[] {
  const unique = new Map(descriptors.map((descriptor) => [descriptor.digest, descriptor]));
  return [...unique.values()].filter(
    (descriptor) => artifactType === undefined || descriptor.artifactType === artifactType,
  );
}

/** The tag under which clients list referrers themselves (distribution spec, "Referrers Tag Schema"). */
export function referrersTag(subject: Digest): string {
  return `sha256-${digestHex(subject)}`;
}

/** True for a tag that lists referrers and names no image. */
export function isReferrersTag(tag: string): boolean {
  return REFERRERS_TAG_PATTERN.test(tag);
}
