/** Decrypts an image into a store whose blobs end up in memory. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { decryptImage } from '#src/image/decrypt.ts';
import type { StagedStore } from '#src/image/encrypt-layer.ts';
import {
  type ImageGraph,
  type PlatformImage,
  platformImages,
  readImageGraph,
} from '#src/image/image-graph.ts';
import { writeImage } from '#src/image/rewrite.ts';
import type { KeyUnwrapper } from '#src/keywrap/key-wrapper.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { BlobSource } from '#src/store/blob-store.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { bytesOf } from '../fakes/image.ts';

export interface DecryptedInMemory {
  readonly images: readonly PlatformImage[];
  /** Digests of the layers that were decrypted. */
  readonly decrypted: ReadonlySet<Digest>;
  /** A layer of the result, decrypted or taken over. */
  readonly read: (digest: Digest) => Promise<Buffer>;
}

/** @throws what `decryptImage` raises */
export async function decryptInMemory(
  source: BlobSource,
  graph: ImageGraph,
  unwrappers: readonly KeyUnwrapper[],
): Promise<DecryptedInMemory> {
  const directory = mkdtempSync(join(tmpdir(), 'latchkey-hostile-'));
  try {
    const blobs = new Map<Digest, Buffer>();
    let files = 0;
    const store = createMemoryStore('the plain image');
    const destination: StagedStore = Object.assign(store, {
      staging: {
        newFile: async () => join(directory, `${(files += 1)}`),
        adopt: async ({ digest }: { digest: Digest }, path: string) => {
          blobs.set(digest, await readFile(path));
          await rm(path);
        },
      },
    });
    const image = await decryptImage({ source, graph, destination, unwrappers });
    await writeImage(destination, image, 'v1');
    const kept = new Map(image.keptLayers.map((layer) => [layer.digest, layer]));
    return {
      images: platformImages(await readImageGraph(destination, 'v1')),
      decrypted: new Set(blobs.keys()),
      read: async (digest) => blobs.get(digest) ?? bytesOf(source.openBlob(kept.get(digest)!)),
    };
  } catch (error) {
    // No plaintext stays behind a failure.
    expect(readdirSync(directory)).toEqual([]);
    throw error;
  } finally {
    rmSync(directory, { recursive: true });
  }
}
