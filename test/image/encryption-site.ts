/** A source image, and where it is encrypted to and decrypted to: three layouts in a temporary directory. */
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import { decryptImage } from '#src/image/decrypt.ts';
import type { StagedStore } from '#src/image/encrypt-layer.ts';
import { encryptImage } from '#src/image/encrypt.ts';
import { type ImageGraph, readImageGraph } from '#src/image/image-graph.ts';
import type { LayerSelection } from '#src/image/layer-selection.ts';
import { planEncryption } from '#src/image/plan.ts';
import { writeImage } from '#src/image/rewrite.ts';
import { createJweUnwrapper, createJweWrapper } from '#src/keywrap/jwe.ts';
import { copyBlobs } from '#src/store/copy.ts';
import { openLayout } from '#src/store/layout.ts';

/** Above the size from which the hash thread and direct writes are used. */
export const LARGE_BYTES = 9 * 1024 * 1024 + 17;

export const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });

export interface EncryptionSite {
  directory: string;
  source: StagedStore;
  encrypted: StagedStore;
  decrypted: StagedStore;
}

/** Makes a fresh site for every test of the file. */
export function useEncryptionSite(): EncryptionSite {
  const site = {} as EncryptionSite;
  beforeEach(async () => {
    const directory = await mkdtemp(join(tmpdir(), 'latchkey-encrypt-'));
    const open = (name: string) => openLayout(join(directory, name));
    const layouts = { source: open('source'), encrypted: open('encrypted'), decrypted: open('decrypted') };
    Object.assign(site, { directory, ...layouts });
  });
  afterEach(() => rm(site.directory, { recursive: true, force: true }));
  return site;
}

/** Encrypts the image `v1` of the source. */
export async function encryptAt(
  { source, encrypted }: EncryptionSite,
  selection: LayerSelection = { kind: 'all' },
  isSalted = true,
): Promise<ImageGraph> {
  const graph = await readImageGraph(source, 'v1');
  const plan = planEncryption(graph, selection);
  const wrappers = [
    createJweWrapper([createPublicKey(pair.publicKey.export({ format: 'pem', type: 'spki' }))]),
  ];
  const image = await encryptImage({ source, graph, plan, destination: encrypted, wrappers, isSalted });
  await copyBlobs(source, encrypted, image.keptLayers);
  await writeImage(encrypted, image, 'v1');
  return readImageGraph(encrypted, 'v1');
}

/** Decrypts the encrypted image. */
export async function decryptAt(
  { encrypted, decrypted }: EncryptionSite,
  privateKey = pair.privateKey,
): Promise<ImageGraph> {
  const graph = await readImageGraph(encrypted, 'v1');
  const unwrappers = [createJweUnwrapper(privateKey)];
  const image = await decryptImage({ source: encrypted, graph, destination: decrypted, unwrappers });
  await copyBlobs(encrypted, decrypted, image.keptLayers);
  await writeImage(decrypted, image, 'v1');
  return readImageGraph(decrypted, 'v1');
}

/** Unfinished files of the encryption. */
export async function leftoversAt({ directory }: EncryptionSite): Promise<string[]> {
  const names = await readdir(join(directory, 'encrypted')).catch(() => []);
  return names.filter((name) => name.includes('partial'));
}

export function raises(code: string, message: RegExp): Error {
  const shape: unknown = expect.objectContaining({
    code: expect.stringMatching(code) as string,
    message: expect.stringMatching(message) as string,
  });
  return shape as Error;
}
