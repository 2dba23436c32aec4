/**
 * The grant rule. A layer key is given when all of this holds: our snapshotter is unpacking or restoring the
 * layer now; the bytes that arrive are that layer's; an image that holds it has a valid lease; and it is the
 * first time for this unpacking.
 */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { LayerKey } from '#src/crypto/layer-cipher.ts';
import { parsePrivateOptions, parsePublicOptions } from '#src/crypto/layer-options.ts';
import { openElement, parseElement } from '#src/keywrap/latchkey-element.ts';
import type { Digest } from '#src/oci/digest.ts';
import type { SnapshotGateRecord } from '../snapshotter/snapshot.ts';
import type { ExtractionLedger, OpenExtraction } from './extraction-ledger.ts';
import { type LayerIndex, hashHead } from './layer-index.ts';
import type { HeldLease, LeaseKeeper } from './lease-keeper.ts';

export interface KeyGrant {
  readonly layerDigest: Digest;
  readonly key: LayerKey;
  /** The layer's MAC, from its public options. */
  readonly mac: Uint8Array;
  /** To be called when the whole layer has proved authentic. */
  readonly verified: () => void;
  /** To be called when it has not. */
  readonly failed: (reason: LatchkeyError) => void;
}

export class KeyGrantor {
  readonly #ledger: ExtractionLedger;
  readonly #index: LayerIndex;
  readonly #leases: LeaseKeeper;

  constructor(ledger: ExtractionLedger, index: LayerIndex, leases: LeaseKeeper) {
    this.#ledger = ledger;
    this.#index = index;
    this.#leases = leases;
  }

  /**
   * Decides about a layer of which the first bytes have arrived.
   * @param hint digest from containerd's payload, when there was one; never trusted alone
   * @throws LatchkeyError DENIED_FOREIGN_UNPACK, DENIED_*, CRYPTO_AUTHENTICATION_FAILED, INPUT_MALFORMED
   */
  async grant(head: Uint8Array, hint: Digest | undefined): Promise<KeyGrant> {
    for (;;) {
      const extraction = await this.#findExtraction(head, hint);
      const grant = await this.#grantFor(extraction);
      // The same layer may be unpacked twice at once, for two images or clients: then the other one is free.
      if (this.#ledger.claim(extraction.token)) return grant;
    }
  }

  async #grantFor(extraction: OpenExtraction): Promise<KeyGrant> {
    const { gate, lease } = await this.#authorize(extraction.identity.encryptedIn);
    const element = parseElement(Buffer.from(gate.element, 'base64'));
    const options = parsePrivateOptions(openElement(element, lease.imageKey));
    const { mac } = parsePublicOptions(Buffer.from(gate.publicOptions, 'base64'));
    return {
      layerDigest: extraction.identity.layer.digest,
      key: { symmetricKey: options.symmetricKey, nonce: options.nonce },
      mac,
      verified: () => {
        this.#ledger.markVerified(extraction.token, gate);
      },
      failed: (reason) => {
        this.#ledger.markFailed(extraction.token, reason);
      },
    };
  }

  async #findExtraction(head: Uint8Array, hint: Digest | undefined): Promise<OpenExtraction> {
    const hash = hashHead(head);
    for (const extraction of this.#ledger.unclaimed()) {
      const { namespace, digest } = extraction.identity.layer;
      if (hint !== undefined && hint !== digest) continue;
      // An extraction is open before its blob has been fetched; then it is not the one that is here.
      const known = await this.#index.headHash(namespace, digest).catch(() => undefined);
      if (known === hash) return extraction;
    }
    await this.#index.refreshAll().catch(() => undefined);
    throw foreignUnpack(this.#leases.all()[0]?.claims.licenseId, await this.#index.contactByHead(head));
  }

  /** The first image with a valid lease; when none has one, the first one's denial. */
  async #authorize(
    candidates: readonly SnapshotGateRecord[],
  ): Promise<{ gate: SnapshotGateRecord; lease: HeldLease }> {
    let denial: LatchkeyError | undefined;
    for (const gate of candidates) {
      try {
        return { gate, lease: await this.#leases.require(gate, gate.contact) };
      } catch (error) {
        denial ??= toLatchkeyError(error);
      }
    }
    throw denial ?? new LatchkeyError('KEY_NOT_FOUND', 'the layer has no key for Latchkey');
  }
}

function foreignUnpack(licenseId: string | undefined, contact: string | undefined): LatchkeyError {
  return new LatchkeyError(
    'DENIED_FOREIGN_UNPACK',
    'key-gated layer: it is opened only while the latchkey snapshotter unpacks it',
    { hint: 'use the snapshotter named latchkey', licenseId, contact },
  );
}
