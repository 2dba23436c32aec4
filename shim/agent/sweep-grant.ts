/**
 * The grant rule on stock overlayfs, where nobody of ours sees who unpacks: a layer key is given when the bytes that arrive
 * are those of a layer of an image that has a valid lease and is as it was released.
 */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { Digest } from '#src/oci/digest.ts';
import { mostTelling } from './denial-choice.ts';
import type { ImageGuard } from './image-guard.ts';
import type { KeyGrant } from './key-grant.ts';
import type { LayerIndex } from './layer-index.ts';
import { openLayerKey } from './layer-key.ts';

export class SweepGrantor {
  readonly #index: Pick<LayerIndex, 'recordsByHead'>;
  readonly #guard: Pick<ImageGuard, 'require' | 'isCleared'>;

  constructor(index: Pick<LayerIndex, 'recordsByHead'>, guard: Pick<ImageGuard, 'require' | 'isCleared'>) {
    this.#index = index;
    this.#guard = guard;
  }

  /**
   * Decides about a layer of which the first bytes have arrived.
   * @param hint digest from containerd's payload, when there was one; never trusted alone
   * @throws LatchkeyError KEY_NOT_FOUND, DENIED_*, CRYPTO_AUTHENTICATION_FAILED, INPUT_MALFORMED
   */
  async grant(head: Uint8Array, hint: Digest | undefined): Promise<KeyGrant> {
    const records = await this.#index.recordsByHead(head, hint);
    // Those with a lease already come first: asking for each forged one would only cost time.
    const [held, others] = [true, false].map((cleared) =>
      records.filter((record) => this.#guard.isCleared(record) === cleared),
    );
    const denials: LatchkeyError[] = [];
    for (const record of [...(held ?? []), ...(others ?? [])]) {
      try {
        const opened = openLayerKey(record, await this.#guard.require(record));
        return { layerDigest: record.blob.digest, ...opened, verified: ignore, failed: ignore };
      } catch (error) {
        denials.push(toLatchkeyError(error));
      }
    }
    throw mostTelling(denials) ?? unknownLayer();
  }
}

/** What becomes of the layer is seen in containerd's snapshots. */
function ignore(): void {
  // Nothing is kept for a grant.
}

function unknownLayer(): LatchkeyError {
  return new LatchkeyError(
    'KEY_NOT_FOUND',
    'the layer is of no image on this node that Latchkey has a key to',
    {
      hint: 'use the tool and the key it was encrypted for, or pull the image again',
    },
  );
}
