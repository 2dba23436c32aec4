/** The seam to the key server: an image's key is handed over, sealed, before anybody can pull the image. */
import { randomBytes, randomUUID } from 'node:crypto';
import type { JWK } from 'jose';
import { sealEnvelope } from '#src/crypto/envelope.ts';
import { createLatchkeyWrapper } from '#src/keywrap/latchkey.ts';
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
  /** Compact JWE; only the key server opens it. */
  readonly sealedImageKey: string;
  /** The root manifest or index, and every manifest below it. */
  readonly imageDigests: readonly Digest[];
  readonly repository: string;
  readonly version: string;
  readonly productCode: string;
}

export interface ImageKeyRegistrar {
  readonly productCode: string;
  /** Asked before any work, so that a wrong product or token costs nothing. */
  prepare(): Promise<RegistrationTerms>;
  /** Repeating the same registration is harmless. */
  register(registration: ImageKeyRegistration): Promise<void>;
}

export interface SealedImageKey {
  readonly imageKeyId: string;
  readonly sealedImageKey: string;
  /** Wraps layer keys under the image key, which is nowhere else in the clear. */
  readonly wrapper: KeyWrapper;
}

/**
 * Makes a fresh image key.
 * @throws LatchkeyError KEY_INVALID when the key server's import key is not usable
 */
export async function createImageKey(terms: RegistrationTerms): Promise<SealedImageKey> {
  const imageKey = randomBytes(IMAGE_KEY_BYTES);
  const imageKeyId = `ik-${randomUUID()}`;
  const contact = terms.contact === '' ? undefined : terms.contact;
  return {
    imageKeyId,
    sealedImageKey: await sealEnvelope(imageKey, terms.importPublicKeyJwk, 'latchkey-image-key-import'),
    wrapper: createLatchkeyWrapper({ imageKeyId, organizationId: terms.organizationId, contact }, imageKey),
  };
}
