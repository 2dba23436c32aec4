/** Image configurations (OCI image spec, config.md); Docker's have the same shape. */
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_CONFIG_BYTES, MAX_LAYERS } from '#src/base/limits.ts';
import type { Digest } from './digest.ts';
import { digestSchema, parseDocument } from './document-schema.ts';
import type { ImageManifest } from './manifest.ts';
import { isLayer } from './media-types.ts';
import type { Platform } from './platform.ts';

/** The execution parameters; Go writes empty ones as null. */
export interface ExecutionConfig {
  readonly Env?: readonly string[] | null | undefined;
  readonly Entrypoint?: readonly string[] | null | undefined;
  readonly Cmd?: readonly string[] | null | undefined;
  readonly Labels?: Readonly<Record<string, string>> | null | undefined;
  /** Paths that Kubernetes and Docker keep on the disk, filled with what the image has there. */
  readonly Volumes?: Readonly<Record<string, unknown>> | null | undefined;
  readonly User?: string | undefined;
  readonly WorkingDir?: string | undefined;
  /** Instructions that run in a build on top of this image (Docker). */
  readonly OnBuild?: readonly string[] | null | undefined;
  readonly Shell?: readonly string[] | null | undefined;
  readonly Healthcheck?: { readonly Test?: readonly string[] | null | undefined } | null | undefined;
}

export interface HistoryEntry {
  readonly created?: string | undefined;
  readonly created_by?: string | undefined;
  readonly comment?: string | undefined;
  readonly author?: string | undefined;
  /** True when the step made no layer. */
  readonly empty_layer?: boolean | undefined;
}

/** Fields the spec does not name are kept on the value too, and survive `{ ...config, rootfs }`. */
export interface ImageConfig extends Platform {
  readonly created?: string | undefined;
  readonly config?: ExecutionConfig | null | undefined;
  readonly rootfs: { readonly type: 'layers'; readonly diff_ids: readonly Digest[] };
  readonly history?: readonly HistoryEntry[] | null | undefined;
  readonly author?: string | undefined;
  readonly comment?: string | undefined;
  /** Docker's copy of the container of the last build step. */
  readonly container_config?: ExecutionConfig | null | undefined;
  /** BuildKit's record of the build (base64 of JSON), with build arguments; written until its version 0.11. */
  readonly 'moby.buildkit.buildinfo.v1'?: unknown;
}

const stringList = z.array(z.string()).nullish();

const executionSchema = z
  .looseObject({
    Env: stringList,
    Entrypoint: stringList,
    Cmd: stringList,
    Labels: z.record(z.string(), z.string()).nullish(),
    Volumes: z.record(z.string(), z.unknown()).nullish(),
    User: z.string().optional(),
    WorkingDir: z.string().optional(),
    OnBuild: stringList,
    Shell: stringList,
    Healthcheck: z.looseObject({ Test: stringList }).nullish(),
  })
  .nullish();

const configSchema = z.looseObject({
  os: z.string(),
  architecture: z.string(),
  variant: z.string().optional(),
  'os.version': z.string().optional(),
  'os.features': z.array(z.string()).optional(),
  created: z.string().optional(),
  config: executionSchema,
  container_config: executionSchema,
  author: z.string().optional(),
  comment: z.string().optional(),
  rootfs: z.looseObject({
    type: z.literal('layers'),
    diff_ids: z
      .array(digestSchema)
      .nullable()
      .transform((list) => list ?? []),
  }),
  history: z
    .array(
      z.looseObject({
        created: z.string().optional(),
        created_by: z.string().optional(),
        comment: z.string().optional(),
        author: z.string().optional(),
        empty_layer: z.boolean().optional(),
      }),
    )
    .nullish(),
});

/**
 * Parses an image configuration.
 * @throws LatchkeyError INPUT_MALFORMED, LIMIT_EXCEEDED
 */
export function parseConfig(bytes: Uint8Array): ImageConfig {
  if (bytes.length > MAX_CONFIG_BYTES) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `the image config is larger than ${MAX_CONFIG_BYTES} bytes`);
  }
  const config = parseDocument(configSchema, bytes, 'the image config');
  if (config.rootfs.diff_ids.length > MAX_LAYERS) {
    throw new LatchkeyError('LIMIT_EXCEEDED', `the image config names more than ${MAX_LAYERS} layers`);
  }
  return config;
}

/**
 * The diff IDs of an image's layers, in the order of the manifest. Builders count either all layers or only those with
 * files; in the second case what has no files has no diff ID.
 * @throws LatchkeyError INPUT_MALFORMED when config and manifest disagree about the number of layers
 */
export function diffIdsOf(config: ImageConfig, manifest: ImageManifest): readonly (Digest | undefined)[] {
  const diffIds = config.rootfs.diff_ids;
  const { layers } = manifest;
  if (diffIds.length === layers.length) return diffIds;
  const withFiles = layers.filter((layer) => isLayer(layer.mediaType));
  if (diffIds.length === withFiles.length) {
    const remaining = diffIds.values();
    return layers.map((layer) => (isLayer(layer.mediaType) ? remaining.next().value : undefined));
  }
  throw new LatchkeyError(
    'INPUT_MALFORMED',
    `the image has ${layers.length} layers but its config names ${diffIds.length}`,
  );
}
