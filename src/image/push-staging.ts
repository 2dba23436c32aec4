/**
 * Ciphertext on its way to a registry. It waits in a layout of this user's cache, so that a push that failed goes on
 * later with the same keys and sends only what is missing. Nothing in it is secret: layer keys are wrapped, the image
 * key is sealed to the key server.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, readdir, realpath, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { toLatchkeyError } from '#src/base/errors.ts';
import { canonicalJson, parseJson } from '#src/base/json.ts';
import { STAGED_PUSH_AGE_MS } from '#src/base/limits.ts';
import { makeDirectory } from '#src/base/make-directory.ts';
import type { Descriptor } from '#src/oci/descriptor.ts';
import { type Digest, isDigest } from '#src/oci/digest.ts';
import { descriptorSchema } from '#src/oci/document-schema.ts';
import { partialPath, writeWhole } from '#src/store/blob-file.ts';
import { withLayoutLock } from '#src/store/layout-lock.ts';
import { openLayout } from '#src/store/layout.ts';
import type { StagedStore } from './encrypt-layer.ts';
import type { ImageKeyRegistration } from './registrar.ts';
import type { ReusedLayer } from './reuse.ts';

const OWNER_ONLY = 0o700;
const STATE_FILE = 'push.json';
const LAYOUT_DIRECTORY = 'layout';

/** What a rerun needs to know; written when all ciphertext is there. */
export interface StagedPush {
  readonly root: Digest;
  /** Manifests that refer to the image from outside. */
  readonly attached: readonly Digest[];
  readonly keptLayers: readonly Descriptor[];
  readonly reused: readonly ReusedLayer[];
  /** Undefined when no key server is involved; with one, its statement is to be signed there. */
  readonly registration?: ImageKeyRegistration | undefined;
  /** Signed envelope of the release statement where no key server is involved; undefined when nobody signs. */
  readonly statement?: string | undefined;
}

const digestSchema = z.custom<Digest>(isDigest, 'not a sha256 digest');
const stateSchema = z.object({
  root: digestSchema,
  attached: z.array(digestSchema),
  keptLayers: z.array(descriptorSchema),
  reused: z.array(
    z.object({ sourceDiffId: digestSchema, diffId: digestSchema, descriptor: descriptorSchema }),
  ),
  registration: z
    .object({
      imageKeyId: z.string(),
      sealedImageKey: z.string().optional(),
      imageDigests: z.array(digestSchema),
      repository: z.string(),
      version: z.string(),
      productCode: z.string(),
      statement: z.string(),
    })
    .optional(),
  statement: z.string().optional(),
});

export interface PushStaging {
  readonly store: StagedStore;
  /** What an earlier run left complete, or undefined. */
  readonly earlier: StagedPush | undefined;
  complete(push: StagedPush): Promise<void>;
  remove(): Promise<void>;
}

/**
 * Runs a push with its staging directory, which no other process uses meanwhile.
 * @param cacheDirectory of this user, for Latchkey
 * @param identity everything that decides what the result is; an equal one finds what an earlier run left
 * @throws LatchkeyError STATE_CONFLICT when another process pushes the same, STORAGE_*
 */
export async function withPushStaging<Result>(
  cacheDirectory: string,
  identity: unknown,
  nowMs: number,
  push: (staging: PushStaging) => Promise<Result>,
  signal?: AbortSignal,
): Promise<Result> {
  const parent = join(cacheDirectory, 'push');
  const directory = join(parent, createHash('sha256').update(canonicalJson(identity)).digest('hex'));
  try {
    await makeDirectory(parent, OWNER_ONLY);
    await removeOld(parent, directory, nowMs);
    await makeDirectory(directory, OWNER_ONLY);
  } catch (error) {
    throw toLatchkeyError(error);
  }
  const others = 'another program has been at the same push for a while';
  const run = async (): Promise<Result> => {
    const earlier = await readState(directory);
    if (earlier === undefined) await rm(join(directory, LAYOUT_DIRECTORY), { recursive: true, force: true });
    const statePath = join(directory, STATE_FILE);
    return push({
      store: openLayout(join(directory, LAYOUT_DIRECTORY)),
      earlier,
      complete: (state) =>
        writeWhole(partialPath(directory), statePath, [Buffer.from(JSON.stringify(state))]),
      remove: () => rm(directory, { recursive: true, force: true }),
    });
  };
  return withLayoutLock(await realpath(directory), run, { signal, others });
}

/** A state that cannot be read is as good as none: the work is done again. */
async function readState(directory: string): Promise<StagedPush | undefined> {
  const path = join(directory, STATE_FILE);
  if (!existsSync(path)) return undefined;
  try {
    return stateSchema.parse(parseJson(await readFile(path), path));
  } catch {
    await rm(path, { force: true });
    return undefined;
  }
}

/** Ciphertext of pushes that nobody came back for; somebody has come back for this one. */
async function removeOld(parent: string, current: string, nowMs: number): Promise<void> {
  for (const name of await readdir(parent)) {
    const path = join(parent, name);
    if (path === current) continue;
    const found = await stat(path).catch(() => undefined);
    if (found !== undefined && nowMs - found.mtimeMs > STAGED_PUSH_AGE_MS) {
      await rm(path, { recursive: true, force: true });
    }
  }
}
