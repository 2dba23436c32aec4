/** The seam to the key server: an image's key is handed over, sealed, before anybody can pull the image. */
import { randomBytes, randomUUID } from 'node:crypto';
import type { JWK } from 'jose';
import { sealEnvelope } from '#src/crypto/envelope.ts';
import { type ImageKeyOwner, createLatchkeyWrapper } from '#src/keywrap/latchkey.ts';
import type { KeyWrapper } from '#src/keywrap/key-wrapper.ts';
import { IMAGE_KEY_BYTES } from '#src/keywrap/latchkey-element.ts';
import type { Digest } from '#src/oci/digest.ts';

export interface RegistrationTerms {
  readonly organizationId: string;
  /** Whom an operator without a license can ask; '' = nobody. */
  readonly contact: string;
  /** EC public key to which image keys are sealed. */
  readonly importPublicKeyJwk: JWK;
}

export interface ImageKeyRegistration {
  readonly imageKeyId: string;
  /** Compact JWE for this image key id; only the key server opens it. Undefined for an image key that it has made itself. */
  readonly sealedImageKey?: string | undefined;
  /** The root manifest or index, and every manifest below it. */
  readonly imageDigests: readonly Digest[];
  readonly repository: string;
  readonly version: string;
  readonly productCode: string;
  /** DSSE envelope (JSON) of the release statement, for the key server to sign. */
  readonly statement: string;
}

export interface ImageKeyRegistrar {
  readonly productCode: string;
  /** Asked before any work, so that a wrong product or token costs nothing. */
  prepare(): Promise<RegistrationTerms>;
  /**
   * Repeating the same registration is harmless.
   * @returns the statement's envelope with the key server's signature
   */
  register(registration: ImageKeyRegistration): Promise<string>;
}

export interface SealedImageKey {
  readonly imageKeyId: string;
  readonly organizationId: string;
  readonly sealedImageKey: string;
  /** Wraps layer keys under the image key, which is nowhere else in the clear. */
  readonly wrapper: KeyWrapper;
}

/** An image key as it is outside of one run: for layers that other tools encrypt. */
export interface ImageKey extends Omit<SealedImageKey, 'organizationId' | 'wrapper'> {
  readonly owner: ImageKeyOwner;
  /** Secret. */
  readonly imageKey: Uint8Array;
}

/**
 * Makes a fresh image key in the clear.
 * @throws LatchkeyError KEY_INVALID when the key server's import key is not usable
 */
export async function generateImageKey(terms: RegistrationTerms): Promise<ImageKey> {
  const imageKey = randomBytes(IMAGE_KEY_BYTES);
  const imageKeyId = `ik-${randomUUID()}`;
  const contact = terms.contact === '' ? undefined : terms.contact;
  const { importPublicKeyJwk } = terms;
  return {
    imageKeyId,
    owner: { imageKeyId, organizationId: terms.organizationId, contact },
    imageKey,
    sealedImageKey: await sealEnvelope(imageKey, importPublicKeyJwk, 'latchkey-image-key-import', imageKeyId),
  };
}

/**
 * Makes a fresh image key.
 * @throws LatchkeyError KEY_INVALID when the key server's import key is not usable
 */
export async function createImageKey(terms: RegistrationTerms): Promise<SealedImageKey> {
  const { imageKeyId, sealedImageKey, owner, imageKey } = await generateImageKey(terms);
  const { organizationId } = owner;
  return { imageKeyId, organizationId, sealedImageKey, wrapper: createLatchkeyWrapper(owner, imageKey) };
}
