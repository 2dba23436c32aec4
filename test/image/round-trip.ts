/** Three layouts in a temporary directory: a source, what it is encrypted to, and what that is decrypted to. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decryptImage } from '#src/image/decrypt.ts';
import type { StagedStore } from '#src/image/encrypt-layer.ts';
import { encryptImage } from '#src/image/encrypt.ts';
import { type ImageGraph, readImageGraph } from '#src/image/image-graph.ts';
import type { LayerSelection } from '#src/image/layer-selection.ts';
import { type PlanOptions, planEncryption } from '#src/image/plan.ts';
import { writeImage } from '#src/image/rewrite.ts';
import { createJweUnwrapper, createJweWrapper } from '#src/keywrap/jwe.ts';
import { openLayout } from '#src/store/layout.ts';
import { copyBlobs } from '#src/store/copy.ts';

export interface RoundTrip {
  readonly directory: string;
  readonly source: StagedStore;
  readonly encrypted: StagedStore;
  readonly decrypted: StagedStore;
  /** Encrypts `v1` of the source; gives what can be read back. */
  encrypt(options?: PlanOptions & { selection?: LayerSelection; isSalted?: boolean }): Promise<ImageGraph>;
  decrypt(): Promise<ImageGraph>;
  dispose(): Promise<void>;
}

/** Opens the layouts. */
export async function openRoundTrip(): Promise<RoundTrip> {
  const directory = await mkdtemp(join(tmpdir(), 'latchkey-round-trip-'));
  const [source, encrypted, decrypted] = ['source', 'encrypted', 'decrypted'].map((name) =>
    openLayout(join(directory, name)),
  ) as [StagedStore, StagedStore, StagedStore];
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    directory,
    source,
    encrypted,
    decrypted,
    encrypt: async ({ selection, isSalted = true, ...options } = {}) => {
      const graph = await readImageGraph(source, 'v1');
      const plan = planEncryption(graph, selection ?? { kind: 'all' }, options);
      const wrappers = [createJweWrapper([publicKey])];
      const image = await encryptImage({ source, graph, plan, destination: encrypted, wrappers, isSalted });
      await copyBlobs(source, encrypted, image.keptLayers);
      await writeImage(encrypted, image, 'v1');
      return readImageGraph(encrypted, 'v1');
    },
    decrypt: async () => {
      const graph = await readImageGraph(encrypted, 'v1');
      const unwrappers = [createJweUnwrapper(privateKey)];
      const image = await decryptImage({ source: encrypted, graph, destination: decrypted, unwrappers });
      await copyBlobs(encrypted, decrypted, image.keptLayers);
      await writeImage(decrypted, image, 'v1');
      return readImageGraph(decrypted, 'v1');
    },
    dispose: () => rm(directory, { recursive: true, force: true }),
  };
}
