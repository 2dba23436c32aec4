/** The gate in front of podman and CRI-O: a container whose image is encrypted starts under a lease only. */
import { type LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import type { Platform } from '#src/oci/platform.ts';
import type { Digest } from '#src/oci/digest.ts';
import { mostTelling } from './denial-choice.ts';
import type { HeldLease } from './held-lease.ts';
import { ImageGuard } from './image-guard.ts';
import { type IndexedImage, recordsOfLayer, toFoundImage } from './indexed-image.ts';
import type { LeaseKeeper } from './lease-keeper.ts';
import { imagesBehind, parseHookState } from './stored-image.ts';

export class StartHook {
  readonly #leases: LeaseKeeper;
  readonly #platform: Pick<Platform, 'os' | 'architecture'>;

  /** @param platform of this node */
  constructor(leases: LeaseKeeper, platform: Pick<Platform, 'os' | 'architecture'>) {
    this.#leases = leases;
    this.#platform = platform;
  }

  /**
   * Resolves when the container may start.
   * @param state as the runtime gives it to its hooks
   * @throws LatchkeyError DENIED_*, INPUT_MALFORMED, STATE_NOT_FOUND
   */
  async authorize(state: Uint8Array): Promise<void> {
    const images = await imagesBehind(parseHookState(state));
    const found = new Map(images.map((image) => [image.digest, image]));
    const source = {
      image: (digest: Digest) => {
        const image = found.get(digest);
        return Promise.resolve(image === undefined ? undefined : toFoundImage(image));
      },
      recordsOf: () => Promise.resolve([]),
    };
    const guard = new ImageGuard(this.#leases, source, this.#platform);
    const leases = new Map<string, HeldLease>();
    for (const image of images)
      for (const lease of await this.#require(image, guard)) leases.set(lease.claims.licenseId, lease);
    // A start is one under each license, and none where another one refuses it.
    const terms = [...leases.values()].flatMap(({ carried }) => (carried === undefined ? [] : [carried]));
    for (const carried of terms) {
      const refusal = carried.startRefusal();
      if (refusal !== undefined) throw refusal;
    }
    for (const carried of terms) await carried.countStart();
  }

  /** Every encrypted layer needs one key under a lease; a plain image has none. */
  async #require(image: IndexedImage, guard: ImageGuard): Promise<readonly HeldLease[]> {
    const leases: HeldLease[] = [];
    for (const layer of image.layers.filter(({ elements }) => elements.length > 0)) {
      const denials: LatchkeyError[] = [];
      for (const record of recordsOfLayer(image, layer)) {
        try {
          leases.push(await guard.require(record));
          denials.length = 0;
          break;
        } catch (error) {
          denials.push(toLatchkeyError(error));
        }
      }
      const denial = mostTelling(denials);
      if (denial !== undefined) throw denial;
    }
    return leases;
  }
}
