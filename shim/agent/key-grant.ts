/**
 * The grant rule. A layer key is given when all of this holds: our snapshotter is unpacking or restoring the
 * layer now; the bytes that arrive are that layer's; an image that holds it has a valid lease and is as it was released;
 * and it is the first time for this unpacking.
 */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { SnapshotGateRecord } from '../snapshotter/snapshot.ts';
import type { StoreRoom } from '../snapshotter/store-room.ts';
import { mostTelling } from './denial-choice.ts';
import type { ExtractionLedger, OpenExtraction } from './extraction-ledger.ts';
import type { ImageGuard } from './image-guard.ts';
import { type LayerIndex, hashHead } from './layer-index.ts';
import { type OpenedLayer, openLayerKey } from './layer-key.ts';
import type { LeaseKeeper } from './lease-keeper.ts';
import { GZIP_TAIL_BYTES, MAX_DEFLATE_RATIO, decryptPart, gzipUnpackedSize } from './unpacked-size.ts';

export interface KeyGrant extends OpenedLayer {
  readonly layerDigest: Digest;
  /** To be called when the whole layer has proved authentic. */
  readonly verified: () => void;
  /** To be called when it has not. */
  readonly failed: (reason: LatchkeyError) => void;
}

export class KeyGrantor {
  readonly #ledger: ExtractionLedger;
  readonly #index: LayerIndex;
  readonly #leases: LeaseKeeper;
  readonly #guard: ImageGuard;
  readonly #room: Pick<StoreRoom, 'has' | 'requireForLayer'> | undefined;

  /** @param room of the store that plaintext goes to, when the agent has one */
  constructor(
    ledger: ExtractionLedger,
    index: LayerIndex,
    leases: LeaseKeeper,
    guard: ImageGuard,
    room?: Pick<StoreRoom, 'has' | 'requireForLayer'>,
  ) {
    this.#room = room;
    this.#ledger = ledger;
    this.#index = index;
    this.#leases = leases;
    this.#guard = guard;
  }

  /**
   * Decides about a layer of which the first bytes have arrived.
   * @param hint digest from containerd's payload, when there was one; never trusted alone
   * @throws LatchkeyError DENIED_FOREIGN_UNPACK, DENIED_*, CRYPTO_AUTHENTICATION_FAILED, INPUT_MALFORMED
   */
  async grant(head: Uint8Array, hint: Digest | undefined): Promise<KeyGrant> {
    const known = await this.#candidates(head, hint);
    const candidates = known.length > 0 ? known : await this.#candidatesAnew(head, hint);
    const denials: LatchkeyError[] = [];
    for (const { extraction, gate } of candidates) {
      try {
        const grant = await this.#grantFor(extraction, gate);
        // The same layer may be unpacked twice at once, for two images or clients: then the other one is free.
        if (this.#ledger.claim(extraction.token)) return grant;
      } catch (error) {
        denials.push(toLatchkeyError(error));
      }
    }
    const denial = mostTelling(denials);
    if (denial === undefined) throw await this.#foreignUnpack(head);
    for (const { extraction } of candidates) this.#ledger.markFailed(extraction.token, denial);
    throw denial;
  }

  #candidatesAnew(head: Uint8Array, hint: Digest | undefined): Promise<Candidate[]> {
    for (const { identity } of this.#ledger.unclaimed())
      for (const { blob } of identity.encryptedIn) this.#index.forgetHead(blob.digest);
    return this.#candidates(head, hint);
  }

  /** The keys that open the blob whose first bytes have arrived, of all unpackings that wait for one. */
  async #candidates(head: Uint8Array, hint: Digest | undefined): Promise<Candidate[]> {
    const hash = hashHead(head);
    const candidates: Candidate[] = [];
    for (const extraction of this.#ledger.unclaimed()) {
      const { namespace } = extraction.identity.layer;
      for (const gate of extraction.identity.encryptedIn) {
        const { digest } = gate.blob;
        if (hint !== undefined && hint !== digest) continue;
        // An extraction is open before its blob has been fetched; then it is not the one that is here.
        const known = await this.#index.headHash(namespace, digest).catch(() => undefined);
        if (known === hash) candidates.push({ extraction, gate });
      }
    }
    return candidates;
  }

  async #grantFor(extraction: OpenExtraction, gate: SnapshotGateRecord): Promise<KeyGrant> {
    const lease = await this.#guard.require(gate);
    const opened = openLayerKey(gate, lease);
    await this.#requireRoom(extraction, gate, opened);
    if (this.#ledger.isContested(extraction.identity.layer.diffId, gate)) {
      throw new LatchkeyError(
        'DENIED_FOREIGN_UNPACK',
        'the same layer is being unpacked for an image that may not have its key',
        { hint: 'pull again when that has ended', licenseId: lease.claims.licenseId, contact: gate.contact },
      );
    }
    return {
      layerDigest: gate.blob.digest,
      ...opened,
      verified: () => {
        this.#index.confirmHead(gate.blob.digest);
        this.#ledger.markVerified(extraction.token, gate);
      },
      failed: (reason) => {
        this.#ledger.markFailed(extraction.token, reason);
      },
    };
  }

  /** Before anything has been unpacked: what containerd says when it runs out of space in the middle helps nobody. */
  async #requireRoom(
    extraction: OpenExtraction,
    { blob }: SnapshotGateRecord,
    { key }: OpenedLayer,
  ): Promise<void> {
    if (this.#room === undefined || !blob.mediaType.includes('gzip')) return;
    if (this.#room.has(blob.sizeBytes * MAX_DEFLATE_RATIO)) return;
    const { namespace, diffId } = extraction.identity.layer;
    const tail = await this.#index.tail(namespace, blob, GZIP_TAIL_BYTES);
    const plaintext = decryptPart(key, blob.sizeBytes - tail.length, tail);
    this.#room.requireForLayer(diffId, gzipUnpackedSize(plaintext));
  }

  async #foreignUnpack(head: Uint8Array): Promise<LatchkeyError> {
    await this.#index.refreshAll().catch(() => undefined);
    return foreignUnpack(this.#leases.all()[0]?.claims.licenseId, await this.#index.contactByHead(head));
  }
}

interface Candidate {
  readonly extraction: OpenExtraction;
  readonly gate: SnapshotGateRecord;
}

function foreignUnpack(licenseId: string | undefined, contact: string | undefined): LatchkeyError {
  return new LatchkeyError(
    'DENIED_FOREIGN_UNPACK',
    'key-gated layer: it is opened only while the latchkey snapshotter unpacks it',
    { hint: 'use the snapshotter named latchkey', licenseId, contact },
  );
}
