/** What an encryption does to one layer, and why; pure. */
import { LatchkeyError } from '#src/base/errors.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import { type Compression, parseLayerMediaType } from '#src/oci/media-types.ts';
import { type PlatformImage, platformName } from './image-graph.ts';
import type { LayerChoice } from './layer-selection.ts';

interface LayerPlanBase {
  readonly position: number;
  readonly descriptor: Descriptor;
  readonly compression: Compression;
  readonly reason: string;
}

/** A layer to encrypt. */
export interface EncryptedLayerPlan extends LayerPlanBase {
  readonly isEncrypted: true;
  readonly diffId: Digest;
  /** False for what is no filesystem, where bytes behind the end would be content. */
  readonly isSaltable: boolean;
  /** What an earlier release has for it; it is then not encrypted again. */
  readonly reuse?: { readonly descriptor: Descriptor; readonly diffId: Digest } | undefined;
}

export interface PlainLayerPlan extends LayerPlanBase {
  readonly isEncrypted: false;
  readonly diffId: Digest | undefined;
  /** True for one that is no filesystem layer or lives elsewhere, and so could not be encrypted. */
  readonly isPassedThrough: boolean;
}

export type LayerPlan = EncryptedLayerPlan | PlainLayerPlan;

/**
 * Plans one layer.
 * @param isExplicit true when the layer was named, so that leaving it out would not be what was asked for
 * @throws LatchkeyError INPUT_UNSUPPORTED for a layer that cannot be encrypted
 */
export function planLayer(
  image: PlatformImage,
  position: number,
  { isEncrypted, reason }: LayerChoice,
  isExplicit: boolean,
): LayerPlan {
  const descriptor = image.manifest.layers[position];
  if (descriptor === undefined) throw new TypeError('no such layer');
  const diffId = image.diffIds[position];
  const compression = parseLayerMediaType(descriptor.mediaType)?.compression ?? 'none';
  const common = { position, descriptor, compression };
  const obstacle = obstacleOf(descriptor);
  if (!isEncrypted)
    return { ...common, reason, isEncrypted, diffId, isPassedThrough: obstacle !== undefined };
  const what = `layer ${position} of ${platformName(image)}`;
  refuseEncrypted(descriptor, what);
  if (obstacle === undefined) {
    if (diffId === undefined) throw new TypeError('a filesystem layer without a diff ID');
    return { ...common, reason, isEncrypted, diffId, isSaltable: true };
  }
  if (!isExplicit) return { ...common, reason: obstacle, isEncrypted: false, diffId, isPassedThrough: true };
  throw new LatchkeyError('INPUT_UNSUPPORTED', `${what} cannot be encrypted: ${obstacle}`, {
    hint: 'leave it out with --layer; it then passes through untouched',
  });
}

/** Why a layer is not ours to encrypt; undefined for one that is. */
function obstacleOf(descriptor: Descriptor): string | undefined {
  const layer = parseLayerMediaType(descriptor.mediaType);
  if (layer === undefined || layer.family === 'wasm') return `no filesystem layer: ${descriptor.mediaType}`;
  const isElsewhere = descriptor.urls !== undefined && descriptor.urls.length > 0;
  return isElsewhere ? 'its content is elsewhere, at its own URLs' : undefined;
}

function refuseEncrypted({ mediaType }: Descriptor, what: string): void {
  if (parseLayerMediaType(mediaType)?.isEncrypted !== true) return;
  throw new LatchkeyError('INPUT_UNSUPPORTED', `${what} is encrypted already`, {
    hint: 'encrypt the plain image, or decrypt this one first with `latchkey decrypt`',
  });
}
