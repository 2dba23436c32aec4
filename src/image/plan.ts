/** Which layers are encrypted, and why; pure, so that `--dry-run` shows exactly what a run does. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { type Compression, parseLayerMediaType } from '#src/oci/media-types.ts';
import {
  type ArtifactNode,
  type ImageGraph,
  type PlatformImage,
  platformImages,
  platformName,
} from './image-graph.ts';

/** Annotation by which builders name the image a build started from (OCI image spec, annotations.md). */
const BASE_NAME_ANNOTATION = 'org.opencontainers.image.base.name';

export type LayerSelection =
  | { readonly kind: 'default' }
  | { readonly kind: 'all' }
  /** Positions from 0 at the base; negative ones count from the end. */
  | { readonly kind: 'layers'; readonly positions: readonly number[] }
  /** What is shared with another image stays plain. */
  | { readonly kind: 'base'; readonly name: string; readonly base: ImageGraph };

export interface LayerPlan {
  readonly position: number;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly compression: Compression;
  readonly isEncrypted: boolean;
  readonly reason: string;
}

export interface PlatformPlan {
  readonly image: PlatformImage;
  readonly platform: string;
  readonly layers: readonly LayerPlan[];
}

export interface EncryptionPlan {
  readonly platforms: readonly PlatformPlan[];
  /** Left out of the result: they describe the plain image, its digests and often its content. */
  readonly dropped: readonly ArtifactNode[];
  /** What the user may want to know before the run. */
  readonly notes: readonly string[];
}

/**
 * Plans the encryption of an image.
 * @throws LatchkeyError USAGE_INVALID for a selection that does not fit, INPUT_UNSUPPORTED for a layer we cannot encrypt
 */
export function planEncryption(graph: ImageGraph, selection: LayerSelection): EncryptionPlan {
  const decide = selectLayers(selection);
  const platforms = platformImages(graph).map((image) => planPlatform(image, decide));
  const chosen = platforms.flatMap((platform) => platform.layers).filter((layer) => layer.isEncrypted);
  if (chosen.length === 0) {
    throw new LatchkeyError('USAGE_INVALID', 'no layer is left to encrypt', {
      hint: 'choose layers with --layer or --all-layers; `latchkey inspect` lists them',
    });
  }
  const dropped = graph.nodes.filter((node) => node.kind === 'artifact');
  return { platforms, dropped, notes: notesFor(graph, selection, dropped) };
}

interface Decision {
  readonly isEncrypted: boolean;
  readonly reason: string;
}

type Decide = (image: PlatformImage, position: number) => Decision;

function selectLayers(selection: LayerSelection): Decide {
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
    case 'base': {
      const shared = new Set(platformImages(selection.base).flatMap(identitiesOf));
      return (image, position) => {
        const isShared = layerIdentities(image, position).some((identity) => shared.has(identity));
        return isShared
          ? { isEncrypted: false, reason: `shared with ${selection.name}` }
          : { isEncrypted: true, reason: `not in ${selection.name}` };
      };
    }
  }
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

function planPlatform(image: PlatformImage, decide: Decide): PlatformPlan {
  const platform = platformName(image);
  const layers = image.manifest.layers.map((descriptor, position): LayerPlan => {
    const { isEncrypted, reason } = decide(image, position);
    const compression = parseLayerMediaType(descriptor.mediaType)?.compression ?? 'none';
    if (isEncrypted) refuseUnsupported(descriptor, `layer ${position} of ${platform}`);
    const diffId = image.diffIds[position];
    if (diffId === undefined) throw new TypeError('a layer without a diff ID');
    return { position, descriptor, diffId, compression, isEncrypted, reason };
  });
  return { image, platform, layers };
}

function refuseUnsupported(descriptor: Descriptor, what: string): void {
  const layer = parseLayerMediaType(descriptor.mediaType);
  if (layer?.isEncrypted === true) {
    throw new LatchkeyError('INPUT_UNSUPPORTED', `${what} is encrypted already`, {
      hint: 'encrypt the plain image, or decrypt this one first with `latchkey decrypt`',
    });
  }
  const isTar = layer?.family === 'oci' || layer?.family === 'docker';
  if (isTar && (layer.compression === 'none' || layer.compression === 'gzip')) return;
  throw new LatchkeyError('INPUT_UNSUPPORTED', `${what} is of type ${descriptor.mediaType}`, {
    hint: 'tar and tar+gzip layers can be encrypted; build the image with gzip, or leave the layer out with --layer',
  });
}

function notesFor(graph: ImageGraph, selection: LayerSelection, dropped: readonly ArtifactNode[]): string[] {
  const notes: string[] = [];
  const base = selection.kind === 'default' ? baseNameOf(graph) : undefined;
  if (base !== undefined) {
    notes.push(`the image is built on ${base}: with --base ${base} its public layers stay plain and shared`);
  }
  if (dropped.length > 0) {
    notes.push(`${dropped.length} attestation(s) of the plain image are left out: they describe its content`);
  }
  return notes;
}

function baseNameOf(graph: ImageGraph): string | undefined {
  for (const node of graph.nodes) {
    const annotations = node.kind === 'index' ? node.index.annotations : node.manifest.annotations;
    const name = annotations?.[BASE_NAME_ANNOTATION];
    // Written by whoever built the image and shown on a terminal.
    if (name !== undefined && /^[\w./:@-]{1,255}$/.test(name)) return name;
  }
  return undefined;
}
