/** The images that a node can carry leases of, each decided as its start would be. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_OFFLINE_LEASES } from '#src/base/limits.ts';
import { decide } from '#src/licensing/decide.ts';
import type { NodeCertificate } from '../custody/certificate-authority.ts';
import type { Reader } from '../db/store.ts';
import { type KnownNode, loadStart } from './decision-facts.ts';
import { denialError } from './denial.ts';
import type { KeyServer } from './key-server.ts';
import type { GrantableLicense } from './license-facts.ts';

/** No start asks, so there is no nonce. */
const NO_NONCE = '';

/** A node that leases are made for, to be carried to it. */
export interface CarrierNode extends KnownNode {
  /** Null for one that is a node already. */
  readonly certificate: NodeCertificate | null;
}

export interface CarriedImage {
  readonly imageDigest: string;
  readonly imageKeyId: string;
  readonly publishedAtMs: number;
  readonly wrappedKey: Uint8Array;
  readonly statement: string;
}

export interface CarriedImages {
  readonly node: CarrierNode;
  readonly license: GrantableLicense;
  /** Digests; none = all that the license covers. */
  readonly wanted: readonly string[];
  readonly nowMs: number;
}

/**
 * Gives the images of a check-out. One that was named and is refused refuses all; of all images, those that the license
 * does not cover are left out.
 * @throws LatchkeyError DENIED_*, LIMIT_EXCEEDED, STATE_PRECONDITION when none is left
 */
export async function imagesToCarry(
  server: KeyServer,
  reader: Reader,
  { node, license, wanted, nowMs }: CarriedImages,
): Promise<CarriedImage[]> {
  const digests = wanted.length > 0 ? [...new Set(wanted)] : await publishedImages(server, reader, license);
  const images: CarriedImage[] = [];
  for (const imageDigest of digests) {
    const { organization, image } = await loadStart(reader, server.organizationId, {
      ...{ nodeId: node.nodeId, keyThumbprint: node.keyThumbprint, imageDigest },
      ...{ imageKeyId: null, nonce: NO_NONCE },
    });
    const decision = decide({
      ...{ sealed: false, node, licenses: [license], image, nowMs },
      // Nobody knows what the clock of a node shows that is not here; the node checks it when it imports.
      nodeTimeMs: nowMs,
      defaultContact: organization.contact,
    });
    const { imageKeyId, wrappedKey, statement } = image;
    const publishedAtMs = image.release?.publishedAtMs ?? nowMs;
    if (decision.allowed && wrappedKey !== undefined && statement !== undefined)
      images.push({ imageDigest, imageKeyId, publishedAtMs, wrappedKey, statement });
    else if (wanted.length > 0 && !decision.allowed) throw denialError(decision);
  }
  if (images.length > 0) return images;
  throw new LatchkeyError('STATE_PRECONDITION', `license ${license.licenseId} covers no published image`, {
    hint: 'publish a release of its product first, or look at its terms',
  });
}

/** In a fixed order; a product with too many is not cut off somewhere, but refused. */
async function publishedImages(
  { organizationId }: KeyServer,
  reader: Reader,
  { productId }: GrantableLicense,
): Promise<string[]> {
  const rows = await reader
    .selectFrom('release')
    .innerJoin('release_image', 'release_image.release_id', 'release.id')
    .select('release_image.image_digest')
    .where('release.organization_id', '=', organizationId)
    .where('release.product_id', '=', productId)
    .where('release.state', '=', 'PUBLISHED')
    .orderBy('release_image.image_digest')
    .limit(MAX_OFFLINE_LEASES + 1)
    .execute();
  if (rows.length <= MAX_OFFLINE_LEASES) return rows.map((row) => row.image_digest);
  throw new LatchkeyError('LIMIT_EXCEEDED', `the product has more than ${MAX_OFFLINE_LEASES} images`, {
    hint: 'have the node ask for the images that it needs: latchkey node request --image DIGEST',
  });
}
