/** Image configurations (OCI image spec, config.md); Docker's have the same shape. */
import { z } from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_CONFIG_BYTES, MAX_LAYERS } from '#src/base/limits.ts';
import type { Digest } from './digest.ts';
import { digestSchema, parseDocument } from './document-schema.ts';
import type { ImageManifest } from './manifest.ts';
import type { Platform } from './platform.ts';

/** The execution parameters; Go writes empty ones as null. */
export interface ExecutionConfig {
  readonly Env?: readonly string[] | null | undefined;
  readonly Entrypoint?: readonly string[] | null | undefined;
  readonly Cmd?: readonly string[] | null | undefined;
  readonly Labels?: Readonly<Record<string, string>> | null | undefined;
  readonly User?: string | undefined;
  readonly WorkingDir?: string | undefined;
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
}

const stringList = z.array(z.string()).nullish();

const configSchema = z.looseObject({
  os: z.string(),
  architecture: z.string(),
  variant: z.string().optional(),
  'os.version': z.string().optional(),
  'os.features': z.array(z.string()).optional(),
  created: z.string().optional(),
  config: z
    .looseObject({
      Env: stringList,
      Entrypoint: stringList,
      Cmd: stringList,
      Labels: z.record(z.string(), z.string()).nullish(),
      User: z.string().optional(),
      WorkingDir: z.string().optional(),
    })
    .nullish(),
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
 * The diff IDs of an image, one for each layer of its manifest and in the same order.
 * @throws LatchkeyError INPUT_MALFORMED when config and manifest disagree about the number of layers
 */
export function diffIdsOf(config: ImageConfig, manifest: ImageManifest): readonly Digest[] {
  const diffIds = config.rootfs.diff_ids;
  if (diffIds.length !== manifest.layers.length) {
    throw new LatchkeyError(
      'INPUT_MALFORMED',
      `the image has ${manifest.layers.length} layers but its config names ${diffIds.length}`,
    );
  }
  return diffIds;
}
