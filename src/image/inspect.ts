/** What an image shows to anybody: its platforms and layers, which are encrypted and for whom, and what stays in the clear. */
import { toLatchkeyError } from '#src/base/errors.ts';
import { publicOptionsOf, withoutEncryption } from '#src/keywrap/annotations.ts';
import type { HistoryEntry, ImageConfig } from '#src/oci/config.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { isEncrypted } from '#src/oci/media-types.ts';
import type { TransferOptions } from '#src/store/blob-store.ts';
import { readAttachedArtifacts } from './attached-artifacts.ts';
import { describeArtifact } from './attestations.ts';
import { type LeakFinding, lintImage } from './config-lint.ts';
import {
  type ArtifactNode,
  type ImageGraph,
  type PlatformImage,
  platformImages,
  platformName,
} from './image-graph.ts';
import { type LayerRecipient, recipientsOf } from './layer-recipients.ts';
import { type StatementInspection, inspectStatements } from './statement-inspection.ts';

export interface BlobInspection {
  readonly position: number;
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly isEncrypted: boolean;
  /** Without those of the encryption. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly recipients: readonly LayerRecipient[];
  /** Why nobody will be able to decrypt it, when that can be seen. */
  readonly problem?: string | undefined;
}

export interface LayerInspection extends BlobInspection {
  /**
   * Of the content below any encryption, and visible. Whether salt is in it cannot be seen, so an unsalted one confirms
   * a guess of the content. Undefined for what the config does not count.
   */
  readonly diffId: Digest | undefined;
}

export interface PlatformInspection {
  readonly platform: string;
  readonly digest: Digest;
  readonly configDigest: Digest;
  readonly annotations: Readonly<Record<string, string>>;
  readonly layers: readonly LayerInspection[];
  /** Read by anybody who can pull the image, also when every layer is encrypted. */
  readonly visible: {
    readonly env: readonly string[];
    readonly entrypoint: readonly string[];
    readonly cmd: readonly string[];
    readonly labels: Readonly<Record<string, string>>;
    readonly history: readonly HistoryEntry[];
    /** All other fields of the config, as JSON. */
    readonly other: Readonly<Record<string, string>>;
  };
}

export interface ArtifactInspection {
  readonly digest: Digest;
  readonly isAttestation: boolean;
  /** True for one that refers to the image from outside. */
  readonly isAttached: boolean;
  /** `SBOM`, `provenance`, or media types. */
  readonly contents: readonly string[];
  readonly aboutDigest?: Digest | undefined;
  readonly aboutPlatform?: string | undefined;
  readonly documents: readonly BlobInspection[];
}

export interface ImageInspection {
  readonly location: string;
  readonly digest: Digest;
  readonly mediaType: string;
  /** Of the index; empty for a single manifest. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly platforms: readonly PlatformInspection[];
  /** Manifests that are no images, such as attestations. */
  readonly artifacts: readonly ArtifactInspection[];
  /** Attached to the image, and unchecked. */
  readonly statements: readonly StatementInspection[];
  /** What looks like a secret and is readable; never its value. */
  readonly leaks: readonly LeakFinding[];
}

/**
 * Describes an image; a layer with bad annotations is described too, with its problem.
 * @throws LatchkeyError what the source raises
 */
export async function inspectImage(
  graph: ImageGraph,
  options: TransferOptions = {},
): Promise<ImageInspection> {
  const root = graph.nodes.at(-1);
  const images = platformImages(graph);
  const attached = await readAttachedArtifacts(graph, options);
  const artifacts = graph.nodes.filter((node) => node.kind === 'artifact').concat(attached.attestations);
  return {
    location: graph.source.location,
    digest: graph.root.descriptor.digest,
    mediaType: graph.root.descriptor.mediaType,
    annotations: root?.kind === 'index' ? (root.index.annotations ?? {}) : {},
    platforms: await Promise.all(images.map(inspectPlatform)),
    artifacts: await Promise.all(artifacts.map((node) => inspectArtifact(node, images))),
    statements: await inspectStatements(graph, options),
    leaks: lintImage(graph, false),
  };
}

async function inspectPlatform(image: PlatformImage): Promise<PlatformInspection> {
  const { config, history } = image.config;
  return {
    platform: platformName(image),
    digest: image.blob.descriptor.digest,
    configDigest: image.manifest.config.digest,
    annotations: { ...image.entry?.annotations, ...image.manifest.annotations },
    layers: await Promise.all(
      image.manifest.layers.map(async (layer, position) => ({
        ...(await inspectBlob(layer, position)),
        diffId: image.diffIds[position],
      })),
    ),
    visible: {
      env: config?.Env ?? [],
      entrypoint: config?.Entrypoint ?? [],
      cmd: config?.Cmd ?? [],
      labels: config?.Labels ?? {},
      history: history ?? [],
      other: otherFields(image.config),
    },
  };
}

/** Fields that are shown by themselves, or that say nothing about what the image does. */
const SHOWN_FIELDS = ['Env', 'Entrypoint', 'Cmd', 'Labels'];
const OUTLINE_FIELDS = ['architecture', 'config', 'created', 'history', 'os', 'rootfs', 'variant'];

function otherFields(config: ImageConfig): Record<string, string> {
  const fields = [
    ...Object.entries(config.config ?? {}).filter(([name]) => !SHOWN_FIELDS.includes(name)),
    ...Object.entries(config).filter(([name]) => !OUTLINE_FIELDS.includes(name)),
  ];
  const present = fields.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return Object.fromEntries(present.map(([name, value]) => [name, JSON.stringify(value)]));
}

async function inspectArtifact(
  node: ArtifactNode,
  images: readonly PlatformImage[],
): Promise<ArtifactInspection> {
  const { isAttestation, contents, about } = describeArtifact(node);
  const image = images.find(({ blob }) => blob.descriptor.digest === about);
  return {
    digest: node.blob.descriptor.digest,
    isAttestation,
    isAttached: node.isAttached === true,
    contents,
    aboutDigest: about,
    aboutPlatform: image === undefined ? undefined : platformName(image),
    documents: await Promise.all(node.manifest.layers.map(inspectBlob)),
  };
}

async function inspectBlob(blob: Descriptor, position: number): Promise<BlobInspection> {
  const common = {
    position,
    mediaType: blob.mediaType,
    digest: blob.digest,
    sizeBytes: blob.size,
    isEncrypted: isEncrypted(blob.mediaType),
    annotations: withoutEncryption(blob.annotations) ?? {},
  };
  if (!common.isEncrypted) return { ...common, recipients: [] };
  try {
    publicOptionsOf(blob.annotations);
    const recipients = await recipientsOf(blob.annotations);
    const problem = recipients.length === 0 ? 'it has no wrapped key' : undefined;
    return { ...common, recipients, problem };
  } catch (error) {
    return { ...common, recipients: [], problem: toLatchkeyError(error).message };
  }
}
