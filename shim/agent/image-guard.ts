/**
 * A lease says that an image may run; the release statement that comes with it says what that image is. Before a layer
 * key leaves this agent and at every start, the image in containerd must be that one. Its documents are immutable under
 * their digests, so each lease is compared once.
 */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { type FoundImage, imageAlterations } from '#src/image/statement-match.ts';
import { chainIds } from '#src/oci/chain-id.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { Platform } from '#src/oci/platform.ts';
import type { SnapshotGateRecord } from '../snapshotter/snapshot.ts';
import { mostTelling, saysLittle } from './denial-choice.ts';
import { subjectKey } from './lease.ts';
import type { HeldLease } from './held-lease.ts';
import type { LeaseKeeper } from './lease-keeper.ts';

/** Where the images of this node can be looked at. */
export interface ImageSource {
  /** Undefined when the node no longer has the documents of the image. */
  image(digest: Digest): Promise<FoundImage | undefined>;
  /** The keys of the images of a namespace whose layers end with a chain ID: one record for each image and key. */
  recordsOf(namespace: string, topChainId: Digest): Promise<readonly SnapshotGateRecord[]>;
}

type Verdict = LatchkeyError | 'as-released';

export class ImageGuard {
  readonly #leases: LeaseKeeper;
  readonly #images: ImageSource;
  readonly #platform: Pick<Platform, 'os' | 'architecture'>;
  readonly #verdicts = new WeakMap<HeldLease, Promise<Verdict>>();
  readonly #passed = new WeakSet<HeldLease>();
  readonly #topChainIds = new WeakMap<HeldLease, Digest>();
  readonly #gatedLayers = new WeakMap<HeldLease, ReadonlySet<string>>();

  /** @param platform of this node */
  constructor(leases: LeaseKeeper, images: ImageSource, platform: Pick<Platform, 'os' | 'architecture'>) {
    this.#leases = leases;
    this.#images = images;
    this.#platform = platform;
  }

  /** True when a start needs no question to anybody. */
  isCleared(record: SnapshotGateRecord): boolean {
    return this.clearance()(record);
  }

  /** As `isCleared`, for many records at one moment: the layers of an image share a lease, which is looked at once. */
  clearance(): (record: SnapshotGateRecord) => boolean {
    const seen = new Map<string, HeldLease | undefined>();
    return (record) => {
      const key = subjectKey(record);
      if (!seen.has(key)) seen.set(key, this.#leases.findGood(record));
      const lease = seen.get(key);
      return lease !== undefined && this.#passed.has(lease) && this.#isLayerOf(lease, record);
    };
  }

  /**
   * A good lease for the record's image, which is as its vendor released it and holds the record's layer.
   * @throws LatchkeyError DENIED_*
   */
  async require(record: SnapshotGateRecord): Promise<HeldLease> {
    const lease = await this.#leases.require(record, record.contact);
    const verdict = await this.#verdictOn(lease);
    if (verdict !== 'as-released') throw verdict;
    if (this.#isLayerOf(lease, record)) return lease;
    throw altered(lease.claims, `the layer ${record.blob.digest} is not of this release`);
  }

  /**
   * Resolves when the chain is all the layers of a released image with a lease, no fewer and no others. A chain ID
   * stands for everything below it, so the topmost one tells.
   * @param records of the gated layers in the chain, which hold leases
   * @throws LatchkeyError DENIED_IMAGE_ALTERED; DENIED_* when it is one whose layers another image opens, but is refused itself
   */
  async requireReleasedChain(
    namespace: string,
    topChainId: Digest,
    records: readonly SnapshotGateRecord[],
  ): Promise<void> {
    const denials: LatchkeyError[] = [];
    const noteDenial = (denial: LatchkeyError): void => void denials.push(denial);
    if ((await this.findReleased(namespace, topChainId, undefined, noteDenial)) !== undefined) return;
    const denial = mostTelling(denials);
    if (denial !== undefined && !saysLittle(denial)) throw denial;
    const lease = records.map((record) => this.#leases.findGood(record)).find((found) => found !== undefined);
    throw altered(lease?.claims, 'layers of it are missing, were replaced, or lie on top of it');
  }

  /**
   * The lease of a released image whose layers end with a chain ID. Gated layers may have come with another release;
   * then nobody has asked for a lease for this one yet, and it is asked for here.
   * @param manifest of the image; undefined = any that has these layers
   * @param onDenied told why an image that has these layers has no lease
   */
  async findReleased(
    namespace: string,
    topChainId: Digest,
    manifest: Digest | undefined,
    onDenied: (denial: LatchkeyError) => void = () => undefined,
  ): Promise<HeldLease | undefined> {
    const isWanted = (imageDigest: Digest): boolean => manifest === undefined || imageDigest === manifest;
    const held = this.#leases
      .all()
      .find(
        (lease) =>
          isWanted(lease.claims.imageDigest) &&
          this.#leases.isGood(lease) &&
          this.#passed.has(lease) &&
          this.#topChainIdOf(lease) === topChainId,
      );
    if (held !== undefined) return held;
    for (const record of await this.#images.recordsOf(namespace, topChainId)) {
      if (!isWanted(record.imageDigest)) continue;
      const lease = await this.require(record).catch((error: unknown) => {
        onDenied(toLatchkeyError(error));
      });
      if (lease !== undefined && this.#topChainIdOf(lease) === topChainId) return lease;
    }
    return undefined;
  }

  #topChainIdOf(lease: HeldLease): Digest | undefined {
    const known = this.#topChainIds.get(lease);
    if (known !== undefined) return known;
    const image = lease.statement.images.find(({ manifest }) => manifest === lease.claims.imageDigest);
    const diffIds = (image?.layers ?? []).flatMap(({ diffId }) => (diffId === undefined ? [] : [diffId]));
    const topChainId = chainIds(diffIds).at(-1);
    if (topChainId !== undefined) this.#topChainIds.set(lease, topChainId);
    return topChainId;
  }

  /** True when the statement has the layer in the image of the lease, encrypted under the same key. */
  #isLayerOf(lease: HeldLease, { blob, imageKeyId }: SnapshotGateRecord): boolean {
    const known = this.#gatedLayers.get(lease) ?? gatedLayers(lease);
    this.#gatedLayers.set(lease, known);
    return known.has(gatedLayer(blob.digest, imageKeyId));
  }

  async #verdictOn(lease: HeldLease): Promise<Verdict> {
    const known = this.#verdicts.get(lease);
    if (known !== undefined) return known;
    const verdict = this.#compare(lease);
    this.#verdicts.set(lease, verdict);
    try {
      if ((await verdict) === 'as-released') this.#passed.add(lease);
    } catch (error) {
      // containerd did not answer: that says nothing about the image.
      this.#verdicts.delete(lease);
      throw error;
    }
    return verdict;
  }

  async #compare(lease: HeldLease): Promise<Verdict> {
    const { statement } = lease;
    const { imageDigest } = lease.claims;
    // Documents that containerd has collected were compared by their digest when the snapshot was made.
    const image =
      (await this.#images.image(imageDigest)) ??
      statement.images.find(({ manifest }) => manifest === imageDigest);
    const alteration =
      image === undefined
        ? `the manifest ${imageDigest} is not of this release`
        : imageAlterations(statement, image, this.#platform).at(0)?.text;
    if (alteration === undefined) return 'as-released';
    const denial = altered(lease.claims, alteration);
    // The image key has no business here; the next start asks for a lease, and with it for a statement, again.
    this.#leases.end(lease, denial);
    return denial;
  }
}

/** The layers of the image of a lease that are encrypted, each under the keys that open it. */
function gatedLayers({ statement, subject }: HeldLease): ReadonlySet<string> {
  const image = statement.images.find(({ manifest }) => manifest === subject.imageDigest);
  const encrypted = (image?.layers ?? []).filter(({ isEncrypted }) => isEncrypted);
  return new Set(
    encrypted.flatMap(({ digest, imageKeyIds }) => imageKeyIds.map((id) => gatedLayer(digest, id))),
  );
}

function gatedLayer(digest: Digest, imageKeyId: string): string {
  return `${imageKeyId} ${digest}`;
}

/** The refusal of an image that is not the released one. */
export function altered(
  { licenseId, contact }: { readonly licenseId?: string; readonly contact?: string } = {},
  reason: string,
  hint = 'pull it again from where its vendor publishes it',
): LatchkeyError {
  return new LatchkeyError('DENIED_IMAGE_ALTERED', `this is not the image that was released: ${reason}`, {
    hint,
    licenseId,
    contact,
  });
}
