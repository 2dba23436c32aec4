/** Pure: what an image manifest and its config say about gated layers. */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_LAYERS, MAX_WRAPPED_KEYS } from '#src/base/limits.ts';
import { type JsonValue, parseJson } from '#src/base/json.ts';
import { ENCRYPTED_SUFFIX, PUBLIC_OPTIONS_ANNOTATION } from '#src/keywrap/key-wrapper.ts';
import {
  LATCHKEY_ANNOTATION,
  type LatchkeyElementHeader,
  parseElement,
} from '#src/keywrap/latchkey-element.ts';
import { type Digest, digestOf, isDigest } from '#src/oci/digest.ts';

const digest = z.string().refine(isDigest, 'not a sha256 digest');

const manifestSchema = z.object({
  config: z.object({ digest, size: z.int().nonnegative() }),
  layers: z
    .array(
      z.object({
        mediaType: z.string(),
        digest,
        size: z.int().nonnegative(),
        annotations: z.record(z.string(), z.string()).optional(),
      }),
    )
    .max(MAX_LAYERS),
});

const configSchema = z.object({ rootfs: z.object({ diff_ids: z.array(digest).max(MAX_LAYERS) }) });

export type ImageManifest = z.infer<typeof manifestSchema>;

export interface ImageLayer {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly sizeBytes: number;
  readonly diffId: Digest;
  readonly chainId: Digest;
  /** Our wrapped keys; empty for a plain layer and for one that only others can open. */
  readonly elements: readonly WrappedLayerKey[];
  /** The public options annotation, base64; empty for a plain layer. */
  readonly publicOptions: string;
  readonly encrypted: boolean;
}

/** One element of the latchkey annotation. */
export interface WrappedLayerKey {
  readonly header: LatchkeyElementHeader;
  /** As it stands in the annotation, base64. */
  readonly encoded: string;
}

/** @returns the manifest; undefined for JSON that is not an image manifest (an artifact, a config) */
export function parseImageManifest(bytes: Uint8Array): ImageManifest | undefined {
  return manifestSchema.safeParse(tryJson(bytes)).data;
}

/**
 * Joins a manifest with its config.
 * @returns the layers with diff and chain IDs; undefined when the two do not fit (an artifact)
 */
export function imageLayers(manifest: ImageManifest, configBytes: Uint8Array): ImageLayer[] | undefined {
  const config = configSchema.safeParse(tryJson(configBytes)).data;
  const diffIds = config?.rootfs.diff_ids;
  if (diffIds?.length !== manifest.layers.length) return undefined;
  let chainId: Digest | undefined;
  return manifest.layers.map((layer, index) => {
    const diffId = diffIds[index];
    if (diffId === undefined) throw new TypeError('lengths were compared above');
    // OCI image spec, config.md "Layer ChainID".
    chainId = chainId === undefined ? diffId : digestOf(`${chainId} ${diffId}`);
    const annotations = layer.annotations ?? {};
    return {
      digest: layer.digest,
      mediaType: layer.mediaType,
      sizeBytes: layer.size,
      diffId,
      chainId,
      publicOptions: annotations[PUBLIC_OPTIONS_ANNOTATION] ?? '',
      elements: latchkeyElements(annotations),
      encrypted: layer.mediaType.endsWith(ENCRYPTED_SUFFIX),
    };
  });
}

function tryJson(bytes: Uint8Array): JsonValue | undefined {
  try {
    return parseJson(bytes, 'the document');
  } catch {
    return undefined;
  }
}

/** Elements that do not parse are left out: another of the list may be ours and good. */
function latchkeyElements(annotations: Readonly<Record<string, string>>): WrappedLayerKey[] {
  const list = annotations[LATCHKEY_ANNOTATION]?.split(',') ?? [];
  return list.slice(0, MAX_WRAPPED_KEYS).flatMap((encoded) => {
    try {
      return [{ header: parseElement(Buffer.from(encoded, 'base64')).header, encoded }];
    } catch (error) {
      if (error instanceof LatchkeyError) return [];
      throw error;
    }
  });
}
