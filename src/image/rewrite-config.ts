/** The image config around changed layers: new diff IDs, and if wanted no word about how the image was built. */
import type { HistoryEntry, ImageConfig } from '#src/oci/config.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type Digest, digestOf } from '#src/oci/digest.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import type { PlatformImage } from './image-graph.ts';

export interface RewrittenConfig {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

/**
 * Makes the config; its bytes stay as they were when nothing changes.
 * @param replacements for each layer the new one, or undefined when it stays
 */
export function rewriteConfig(
  image: PlatformImage,
  replacements: readonly ({ readonly diffId: Digest | undefined } | undefined)[],
  isHistoryScrubbed: boolean,
): RewrittenConfig {
  const diffIds = image.diffIds.flatMap((diffId, position) =>
    diffId === undefined ? [] : [replacements[position]?.diffId ?? diffId],
  );
  const isSame = diffIds.every((diffId, at) => diffId === image.config.rootfs.diff_ids[at]);
  const config = isHistoryScrubbed ? withoutHistory(image.config) : image.config;
  const bytes =
    isSame && !isHistoryScrubbed
      ? image.configBytes
      : Buffer.from(JSON.stringify({ ...config, rootfs: { ...config.rootfs, diff_ids: diffIds } }));
  const { mediaType } = image.manifest.config;
  return {
    descriptor: {
      ...image.manifest.config,
      mediaType: mediaType === MEDIA_TYPE.dockerConfig ? MEDIA_TYPE.ociConfig : mediaType,
      digest: digestOf(bytes),
      size: bytes.length,
      data: undefined,
    },
    bytes,
  };
}

/**
 * The config without commands, comments and authors of the build. Entries keep their number, their time and whether
 * they made a layer, so that tools that walk history and layers side by side still can. Docker's copy of the last build
 * container and BuildKit's record of build arguments say the same once more and go too.
 */
export function withoutHistory(config: ImageConfig): ImageConfig {
  const kept: ImageConfig = {
    ...config,
    author: undefined,
    comment: undefined,
    container_config: undefined,
    'moby.buildkit.buildinfo.v1': undefined,
  };
  const history = config.history?.map(({ created, empty_layer }): HistoryEntry => ({ created, empty_layer }));
  return history === undefined ? kept : { ...kept, history };
}
