/**
 * Which images of a node say that they have the layers of a chain and volumes among them. Kubernetes puts what an image
 * has in its volumes onto the disk before there is a container that could be looked at. Read as loosely as Go reads
 * JSON: a claim that only we do not see would be one that containerd acts on.
 */
import { parseJson } from '#src/base/json.ts';
import { MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES } from '#src/base/limits.ts';
import { chainIds } from '#src/oci/chain-id.ts';
import { type Digest, isDigest } from '#src/oci/digest.ts';
import type { ContainerdConnection } from '../containerd/connection.ts';
import { listManifests, readBlob } from '../containerd/content.ts';

/** An image that says that it has a chain, and volumes in it. */
export interface VolumeClaim {
  readonly manifest: Digest;
  /** Undefined when it could not be told; then it counts for every chain. */
  readonly config: Digest | undefined;
}

/** `any`: what it says is too large to be read, or could be read in two ways. */
type Claim = { readonly chainId: Digest; readonly config: Digest } | 'any' | 'none';

export class VolumeClaims {
  readonly #containerd: ContainerdConnection;
  /** Per namespace: manifest -> the chain that it claims with volumes in it. */
  readonly #claims = new Map<string, Map<Digest, Claim>>();

  constructor(containerd: ContainerdConnection) {
    this.#containerd = containerd;
  }

  /** The images of a namespace that claim a chain and have volumes. */
  async on(namespace: string, topChainId: Digest): Promise<VolumeClaim[]> {
    const before = this.#claims.get(namespace) ?? new Map<Digest, Claim>();
    const now = new Map<Digest, Claim>();
    for (const { digest, sizeBytes } of await listManifests(this.#containerd, namespace)) {
      const claim = before.get(digest) ?? (await this.#read(namespace, digest, sizeBytes));
      if (claim !== undefined) now.set(digest, claim);
    }
    this.#claims.set(namespace, now);
    return [...now].flatMap(([manifest, claim]): VolumeClaim[] => {
      if (claim === 'any') return [{ manifest, config: undefined }];
      return claim !== 'none' && claim.chainId === topChainId ? [{ manifest, config: claim.config }] : [];
    });
  }

  /** @returns undefined while the image cannot be read: it is being fetched, or was collected */
  async #read(namespace: string, digest: Digest, sizeBytes: number): Promise<Claim | undefined> {
    if (sizeBytes > MAX_MANIFEST_BYTES) return 'any';
    const manifest = await this.#json(namespace, digest, MAX_MANIFEST_BYTES);
    if (manifest === 'unclear') return 'any';
    const config = field(field(manifest, 'config'), 'digest');
    // A containerd that knows more kinds of digests than we do reads it.
    if (!isDigest(config)) return typeof config === 'string' ? 'any' : 'none';
    const size = field(field(manifest, 'config'), 'size');
    if (typeof size === 'number' && size > MAX_CONFIG_BYTES) return 'any';
    const document = await this.#json(namespace, config, MAX_CONFIG_BYTES);
    if (document === undefined) return undefined;
    if (document === 'unclear') return 'any';
    const chainId = volumeClaim(document);
    return chainId === 'none' ? 'none' : { chainId, config };
  }

  /** `unclear`: Go reads it otherwise than we would, as it lays equal keys over each other. */
  async #json(namespace: string, digest: Digest, maxBytes: number): Promise<unknown> {
    let text: Buffer;
    try {
      text = await readBlob(this.#containerd, namespace, digest, maxBytes);
      JSON.parse(text.toString());
    } catch {
      // containerd cannot read it either.
      return undefined;
    }
    try {
      return parseJson(text, 'a document of an image');
    } catch {
      return 'unclear';
    }
  }
}

/** Pure: the chain that an image config claims, if it declares volumes. */
export function volumeClaim(config: unknown): Digest | 'none' {
  const volumes = field(field(config, 'config'), 'volumes');
  if (!isObject(volumes) || Object.keys(volumes).length === 0) return 'none';
  const diffIds = field(field(config, 'rootfs'), 'diff_ids');
  return Array.isArray(diffIds) ? (chainIds(diffIds.filter(isDigest)).at(-1) ?? 'none') : 'none';
}

/** A member of an object as Go finds it: whatever its case, and the last of several (encoding/json, Unmarshal). */
function field(value: unknown, name: string): unknown {
  if (!isObject(value)) return undefined;
  const found = Object.entries(value).flatMap(([key, member]) => (folded(key) === name ? [member] : []));
  // Several objects for one field are laid over each other.
  const objects = found.filter(isObject);
  return objects.length > 1 ? Object.assign({}, ...objects) : found.at(-1);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Both ways, because some letters have a large form only (U+017F) and some a small one (U+212A). */
function folded(key: string): string {
  return key.toUpperCase().toLowerCase();
}
