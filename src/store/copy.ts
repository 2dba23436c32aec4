/**
 * Copies a whole image with all its platforms. Blobs go before the manifest that names them and manifests before their
 * index, so a copy cut off at any point leaves nothing that points at what is not there, and a rerun skips what is.
 */
import { toLatchkeyError } from '#src/base/errors.ts';
import { MAX_PARALLEL_BLOBS } from '#src/base/limits.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { BlobDestination, BlobSource, TransferOptions } from './blob-store.ts';
import { type GraphNode, walkGraph } from './graph.ts';
import { throwIfAborted } from './verified-stream.ts';

export interface CopyEvent {
  /** `skipped`: it was there; `mounted`: the registry took it from another repository; `foreign`: it lives elsewhere by its URLs. */
  readonly kind: 'copied' | 'skipped' | 'mounted' | 'foreign' | 'manifest';
  readonly descriptor: Descriptor;
}

export interface CopyOptions extends TransferOptions {
  /** Tag or digest in the source; without one, its only or default image. */
  readonly reference?: string | undefined;
  /** Tag in the destination. */
  readonly tag?: string | undefined;
  readonly onEvent?: ((event: CopyEvent) => void) | undefined;
}

/**
 * Copies an image.
 * @returns the descriptor of its root manifest or index, whose digest is the same on both sides
 * @throws LatchkeyError what the stores raise
 */
export async function copyImage(
  source: BlobSource,
  destination: BlobDestination,
  options: CopyOptions = {},
): Promise<Descriptor> {
  const root = await source.readManifest(options.reference, options);
  const finished = new Set<Digest>();
  for await (const { manifest, document, depth } of walkGraph(source, root, options)) {
    if (document.kind === 'manifest') {
      const { config, layers } = document.manifest;
      const missing = [config, ...layers].filter((blob) => !finished.has(blob.digest));
      await copyBlobs(source, destination, missing, options);
      for (const blob of missing) finished.add(blob.digest);
    }
    const { signal } = options;
    const isChild = depth > 0;
    const tag = isChild ? undefined : options.tag;
    const subject = subjectOf(document);
    // What refers to another manifest is written again, so that a list of referrers that lacks it is mended.
    const isThere =
      subject === undefined &&
      (await destination.hasManifest?.(manifest.descriptor, tag, { signal })) === true;
    if (!isThere) {
      await destination.writeManifest(manifest, tag, { signal, isChild });
    }
    options.onEvent?.({ kind: 'manifest', descriptor: manifest.descriptor });
  }
  return root.descriptor;
}

function subjectOf(document: GraphNode['document']): Descriptor | undefined {
  switch (document.kind) {
    case 'index':
      return document.index.subject;
    case 'manifest':
      return document.manifest.subject;
    case 'opaque':
      return undefined;
  }
}

/** Copies blobs, {@link MAX_PARALLEL_BLOBS} at once; the first failure stops the others and is raised. */
export async function copyBlobs(
  source: BlobSource,
  destination: BlobDestination,
  blobs: readonly Descriptor[],
  options: CopyOptions = {},
): Promise<void> {
  const failed = new AbortController();
  const signal =
    options.signal === undefined ? failed.signal : AbortSignal.any([options.signal, failed.signal]);
  const waiting = [...new Map(blobs.map((blob) => [blob.digest, blob])).values()];
  let firstError: unknown;

  async function work(): Promise<void> {
    for (let blob = waiting.shift(); blob !== undefined; blob = waiting.shift()) {
      try {
        throwIfAborted(signal);
        const kind = await copyBlob(source, destination, blob, { ...options, signal });
        options.onEvent?.({ kind, descriptor: blob });
      } catch (error) {
        firstError ??= toLatchkeyError(error);
        failed.abort();
        return;
      }
    }
  }

  await Promise.all(Array.from({ length: MAX_PARALLEL_BLOBS }, work));
  if (firstError !== undefined) throw firstError as Error;
}

async function copyBlob(
  source: BlobSource,
  destination: BlobDestination,
  blob: Descriptor,
  options: TransferOptions,
): Promise<CopyEvent['kind']> {
  // Layers with URLs may not be redistributed (OCI image spec, layer.md "Non-Distributable Layers").
  if (blob.urls !== undefined && blob.urls.length > 0) return 'foreign';
  const { signal } = options;
  if (await destination.hasBlob(blob, { signal })) return 'skipped';
  if (destination.mountBlob !== undefined && (await destination.mountBlob(blob, source, { signal }))) {
    return 'mounted';
  }
  await destination.writeBlob(blob, () => source.openBlob(blob, { signal }), options);
  return 'copied';
}
