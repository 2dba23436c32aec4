/**
 * From what image a container of podman or CRI-O is made, by the books of containers-storage. Their pull decrypts, but keeps
 * the manifest as it came beside the one of the plain layers, so keys and digest of the release are still known.
 */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as z from 'zod';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { type Digest, digestOf, isDigest } from '#src/oci/digest.ts';
import { imageLayers, parseImageManifest } from './encrypted-image.ts';
import type { IndexedImage } from './indexed-image.ts';

const CONTAINER_ID = /^[0-9a-f]{64}$/;
const CONTAINERS_DIRECTORY = /^(?<root>\/.*)\/(?<driver>[a-z]+)-containers\/[0-9a-f]{64}\/userdata$/;
const MANIFEST_DATA = 'manifest-';
/** CRI-O's containers run from a bundle outside the storage; this says where the storage is. */
const CRIO_MOUNT_POINT = 'io.kubernetes.cri-o.MountPoint';
const CRIO_MOUNT = /^(?<root>\/.*)\/(?<driver>[a-z]+)\/[^/]+\/merged$/;

const stateSchema = z.object({
  id: z.string().regex(CONTAINER_ID),
  bundle: z.string(),
  annotations: z.record(z.string(), z.string()).default({}),
});

const containersSchema = z.array(z.object({ id: z.string(), image: z.string().default('') }));
const imagesSchema = z.array(
  z.object({
    id: z.string().regex(CONTAINER_ID),
    layer: z.string().default(''),
    'big-data-names': z.array(z.string()).default([]),
  }),
);
const layersSchema = z.array(z.object({ id: z.string(), parent: z.string().default('') }));

/** A storage, and the container in it. */
export interface StoredContainer {
  readonly containerId: string;
  readonly root: string;
  readonly driver: string;
}

/**
 * Reads the state that a runtime gives to its hooks (OCI runtime specification, State).
 * @throws LatchkeyError INPUT_MALFORMED
 */
export function parseHookState(bytes: Uint8Array): StoredContainer {
  const state = stateSchema.safeParse(parseJson(bytes, 'the container’s state')).data;
  if (state === undefined) throw malformed('it is not the state of a container');
  const mount = state.annotations[CRIO_MOUNT_POINT];
  const groups = (mount === undefined ? CONTAINERS_DIRECTORY.exec(state.bundle) : CRIO_MOUNT.exec(mount))
    ?.groups;
  const { root, driver } = groups ?? {};
  if (root === undefined || driver === undefined)
    throw malformed('its storage is not where podman or CRI-O have it');
  return { containerId: state.id, root, driver };
}

/**
 * The images that a container stands on, its own and those that it was built from, as they were released.
 * @throws LatchkeyError STATE_NOT_FOUND for a container that the storage does not know, INPUT_MALFORMED
 */
export async function imagesBehind({ containerId, root, driver }: StoredContainer): Promise<IndexedImage[]> {
  const directory = (kind: string): string => join(root, `${driver}-${kind}`);
  const containers = [
    ...(await readList(join(directory('containers'), 'containers.json'), containersSchema)),
    ...(await readList(join(directory('containers'), 'volatile-containers.json'), containersSchema)),
  ];
  const container = containers.find(({ id }) => id === containerId);
  if (container === undefined) {
    throw new LatchkeyError('STATE_NOT_FOUND', `container ${containerId} is not in the storage at ${root}`, {
      hint: 'containers without an image of the storage, such as those of --rootfs, do not start here',
    });
  }
  const images = await readList(join(directory('images'), 'images.json'), imagesSchema);
  const layers = await readList(join(directory('layers'), 'layers.json'), layersSchema);
  const own = images.find(({ id }) => id === container.image);
  if (own === undefined) {
    throw new LatchkeyError('STATE_NOT_FOUND', `the image of container ${containerId} is not in the storage`);
  }
  const below = layersBelow(own.layer, layers);
  const behind = images.filter(({ id, layer }) => id === own.id || (layer !== '' && below.has(layer)));
  const found = await Promise.all(
    behind.map((image) => readImage(join(directory('images'), image.id), image['big-data-names'])),
  );
  return found.flat();
}

function layersBelow(top: string, layers: z.infer<typeof layersSchema>): Set<string> {
  const parents = new Map(layers.map(({ id, parent }) => [id, parent]));
  const below = new Set<string>();
  for (let layer = top; layer !== '' && !below.has(layer); layer = parents.get(layer) ?? '') below.add(layer);
  return below;
}

/** An image as each of its manifests describes it: the released one and the one without encryption. */
async function readImage(directory: string, names: readonly string[]): Promise<IndexedImage[]> {
  const images: IndexedImage[] = [];
  for (const name of names.filter((candidate) => candidate.startsWith(MANIFEST_DATA))) {
    const digest = name.slice(MANIFEST_DATA.length);
    if (!isDigest(digest)) continue;
    const manifest = parseImageManifest(await readBigData(directory, name, digest));
    if (manifest === undefined) continue;
    const config = manifest.config.digest;
    const layers = imageLayers(manifest, await readBigData(directory, config, config));
    if (layers !== undefined) images.push({ digest, config, layers });
  }
  return images;
}

/** containers-storage puts what is not a simple word into a file named by its base64 (store.go, makeBigDataBaseName). */
async function readBigData(directory: string, name: string, digest: Digest): Promise<Buffer> {
  const path = join(directory, `=${Buffer.from(name).toString('base64')}`);
  const bytes = await readFile(path);
  if (digestOf(bytes) === digest) return bytes;
  throw new LatchkeyError(
    'INPUT_DIGEST_MISMATCH',
    `${dirname(path)} does not hold what its digest ${digest} says`,
  );
}

async function readList<Item>(path: string, schema: z.ZodType<Item[]>): Promise<Item[]> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw error;
  }
  const parsed = schema.safeParse(parseJson(bytes, path));
  if (parsed.success) return parsed.data;
  throw new LatchkeyError('INPUT_MALFORMED', `${path} is not a list of containers-storage`);
}

function malformed(reason: string): LatchkeyError {
  return new LatchkeyError(
    'INPUT_MALFORMED',
    `the hook was given something else than a container: ${reason}`,
    {
      hint: 'run it from a hooks directory of podman or CRI-O only',
    },
  );
}
