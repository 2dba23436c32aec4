/**
 * The keys of an organization: made once, stored wrapped, opened at start. Nothing here is ever sent out
 * except the public halves.
 */
import {
  type KeyObject,
  createPrivateKey,
  createSecretKey,
  generateKeyPair as generateKeyPairCallback,
  randomBytes,
} from 'node:crypto';
import { promisify } from 'node:util';
import type { JWK } from 'jose';
import { LatchkeyError } from '#src/base/errors.ts';
import type { OrganizationTable } from '../db/tables/organization.ts';
import { createAuthority } from './certificate-authority.ts';
import type { Custody } from './custody.ts';
import { WRAPPING_KEY_BYTES, unwrapKey, wrapKey } from './wrapped-key.ts';

const generateKeyPair = promisify(generateKeyPairCallback);

export interface OrganizationKeys {
  /** HMAC key under which license keys are looked up. */
  readonly lookupKey: Uint8Array;
  /** Opens image keys that CI has sealed. */
  readonly importKey: KeyObject;
  /** Signs leases. */
  readonly leaseKey: KeyObject;
  /** Signs what a release is. */
  readonly releaseKey: KeyObject;
  /** Signs the certificates of nodes and of this server. */
  readonly authorityKey: KeyObject;
  readonly authorityCertificate: Uint8Array;
  wrapAuditKey(key: Uint8Array): Uint8Array;
  /** @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED */
  unwrapAuditKey(wrapped: Uint8Array): Uint8Array;
  wrapAuditFieldKey(key: Uint8Array): Uint8Array;
  /** @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED */
  unwrapAuditFieldKey(wrapped: Uint8Array): Uint8Array;
  wrapWebhookSecret(endpointId: string, secret: Uint8Array): Uint8Array;
  /** @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED */
  unwrapWebhookSecret(endpointId: string, wrapped: Uint8Array): Uint8Array;
  wrapImageKey(imageKeyId: string, imageKey: Uint8Array): Uint8Array;
  /** @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED */
  unwrapImageKey(imageKeyId: string, wrapped: Uint8Array): Uint8Array;
}

/** The columns of an organization that hold its keys. */
export type StoredOrganizationKeys = Pick<
  OrganizationTable,
  | 'wrapped_organization_key'
  | 'wrapped_lookup_key'
  | 'import_public_jwk'
  | 'wrapped_import_key'
  | 'lease_public_jwk'
  | 'wrapped_lease_key'
  | 'authority_certificate'
  | 'wrapped_authority_key'
> &
  StoredReleaseKey;

/** The columns of the key that signs what a release is. */
export interface StoredReleaseKey {
  readonly release_public_jwk: string;
  readonly wrapped_release_key: Uint8Array;
}

/** Makes the keys of a new organization. */
export async function createOrganizationKeys(
  organizationId: string,
  organizationName: string,
  custody: Custody,
  nowMs: number,
): Promise<StoredOrganizationKeys> {
  const organizationKey = randomBytes(WRAPPING_KEY_BYTES);
  const importPair = await generateKeyPair('ec', { namedCurve: 'P-256' });
  const leasePair = await generateKeyPair('ed25519', {});
  const authorityPair = await generateKeyPair('ec', { namedCurve: 'P-256' });
  const wrapPrivate = (key: KeyObject, purpose: Purpose) =>
    wrapKey(
      organizationKey,
      key.export({ type: 'pkcs8', format: 'der' }),
      purposeOf(organizationId, purpose),
    );
  return {
    wrapped_organization_key: await custody.wrap(
      organizationKey,
      purposeOf(organizationId, 'organization-key'),
    ),
    wrapped_lookup_key: wrapKey(
      organizationKey,
      randomBytes(WRAPPING_KEY_BYTES),
      purposeOf(organizationId, 'lookup-key'),
    ),
    import_public_jwk: publicJwk(importPair.publicKey, { use: 'enc', alg: 'ECDH-ES+A256KW' }),
    wrapped_import_key: wrapPrivate(importPair.privateKey, 'import-key'),
    lease_public_jwk: publicJwk(leasePair.publicKey, { use: 'sig', alg: 'EdDSA' }),
    wrapped_lease_key: wrapPrivate(leasePair.privateKey, 'lease-key'),
    authority_certificate: await createAuthority(organizationName, authorityPair, nowMs),
    wrapped_authority_key: wrapPrivate(authorityPair.privateKey, 'authority-key'),
    ...(await newReleaseKey(organizationId, organizationKey)),
  };
}

/**
 * Makes the release key of an organization that was created before there was one.
 * @throws LatchkeyError KEY_INVALID when the root key is not the organization's
 */
export async function createReleaseKey(
  organizationId: string,
  stored: Pick<StoredOrganizationKeys, 'wrapped_organization_key'>,
  custody: Custody,
): Promise<StoredReleaseKey> {
  return newReleaseKey(organizationId, await unwrapOrganizationKey(organizationId, stored, custody));
}

async function newReleaseKey(organizationId: string, organizationKey: Uint8Array): Promise<StoredReleaseKey> {
  const { publicKey, privateKey } = await generateKeyPair('ed25519', {});
  const der = privateKey.export({ type: 'pkcs8', format: 'der' });
  return {
    release_public_jwk: publicJwk(publicKey, { use: 'sig', alg: 'EdDSA' }),
    wrapped_release_key: wrapKey(organizationKey, der, purposeOf(organizationId, 'release-key')),
  };
}

/**
 * Opens the keys of an organization.
 * @throws LatchkeyError KEY_INVALID when the root key is not the one they were made under
 */
export async function openOrganizationKeys(
  organizationId: string,
  stored: StoredOrganizationKeys,
  custody: Custody,
): Promise<OrganizationKeys> {
  const organizationKey = createSecretKey(await unwrapOrganizationKey(organizationId, stored, custody));
  const open = (wrapped: Uint8Array, purpose: Purpose) =>
    unwrapKey(organizationKey, wrapped, purposeOf(organizationId, purpose));
  const openPrivate = (wrapped: Uint8Array, purpose: Purpose) =>
    createPrivateKey({ key: Buffer.from(open(wrapped, purpose)), format: 'der', type: 'pkcs8' });
  return {
    lookupKey: open(stored.wrapped_lookup_key, 'lookup-key'),
    importKey: openPrivate(stored.wrapped_import_key, 'import-key'),
    leaseKey: openPrivate(stored.wrapped_lease_key, 'lease-key'),
    releaseKey: openPrivate(stored.wrapped_release_key, 'release-key'),
    authorityKey: openPrivate(stored.wrapped_authority_key, 'authority-key'),
    authorityCertificate: stored.authority_certificate,
    wrapAuditKey: (key) => wrapKey(organizationKey, key, purposeOf(organizationId, 'audit-key')),
    unwrapAuditKey: (wrapped) => open(wrapped, 'audit-key'),
    wrapAuditFieldKey: (key) => wrapKey(organizationKey, key, purposeOf(organizationId, 'audit-field-key')),
    unwrapAuditFieldKey: (wrapped) => open(wrapped, 'audit-field-key'),
    wrapWebhookSecret: (endpointId, secret) =>
      wrapKey(organizationKey, secret, webhookPurpose(organizationId, endpointId)),
    unwrapWebhookSecret: (endpointId, wrapped) =>
      unwrapKey(organizationKey, wrapped, webhookPurpose(organizationId, endpointId)),
    wrapImageKey: (imageKeyId, imageKey) =>
      wrapKey(organizationKey, imageKey, imageKeyPurpose(organizationId, imageKeyId)),
    unwrapImageKey: (imageKeyId, wrapped) =>
      unwrapKey(organizationKey, wrapped, imageKeyPurpose(organizationId, imageKeyId)),
  };
}

/** The same keys under a new organization key. */
export interface RewrappedKeys {
  readonly columns: WrappedColumns;
  readonly rewrapAuditKey: (wrapped: Uint8Array) => Uint8Array;
  readonly rewrapAuditFieldKey: (wrapped: Uint8Array) => Uint8Array;
  readonly rewrapWebhookSecret: (endpointId: string, wrapped: Uint8Array) => Uint8Array;
  /** It @throws LatchkeyError CRYPTO_AUTHENTICATION_FAILED */
  readonly rewrapImageKey: (imageKeyId: string, wrapped: Uint8Array) => Uint8Array;
}

type WrappedColumns = Omit<StoredOrganizationKeys, `${string}_jwk` | 'authority_certificate'>;

/**
 * Draws a new organization key and wraps with it what was under the one before; the keys themselves stay.
 * @param after the root key from now on
 * @throws LatchkeyError KEY_INVALID when the root key is not the organization's, CRYPTO_AUTHENTICATION_FAILED
 */
export async function rewrapOrganizationKeys(
  organizationId: string,
  stored: StoredOrganizationKeys,
  before: Custody,
  after: Custody,
): Promise<RewrappedKeys> {
  const oldKey = createSecretKey(await unwrapOrganizationKey(organizationId, stored, before));
  const newKey = randomBytes(WRAPPING_KEY_BYTES);
  const rewrap = (wrapped: Uint8Array, purpose: string) =>
    wrapKey(newKey, unwrapKey(oldKey, wrapped, purpose), purpose);
  const own = (wrapped: Uint8Array, purpose: Purpose) => rewrap(wrapped, purposeOf(organizationId, purpose));
  return {
    columns: {
      wrapped_organization_key: await after.wrap(newKey, purposeOf(organizationId, 'organization-key')),
      wrapped_lookup_key: own(stored.wrapped_lookup_key, 'lookup-key'),
      wrapped_import_key: own(stored.wrapped_import_key, 'import-key'),
      wrapped_lease_key: own(stored.wrapped_lease_key, 'lease-key'),
      wrapped_release_key: own(stored.wrapped_release_key, 'release-key'),
      wrapped_authority_key: own(stored.wrapped_authority_key, 'authority-key'),
    },
    rewrapAuditKey: (wrapped) => own(wrapped, 'audit-key'),
    rewrapAuditFieldKey: (wrapped) => own(wrapped, 'audit-field-key'),
    rewrapWebhookSecret: (endpointId, wrapped) => rewrap(wrapped, webhookPurpose(organizationId, endpointId)),
    rewrapImageKey: (imageKeyId, wrapped) => rewrap(wrapped, imageKeyPurpose(organizationId, imageKeyId)),
  };
}

async function unwrapOrganizationKey(
  organizationId: string,
  stored: Pick<StoredOrganizationKeys, 'wrapped_organization_key'>,
  custody: Custody,
): Promise<Uint8Array> {
  try {
    return await custody.unwrap(
      stored.wrapped_organization_key,
      purposeOf(organizationId, 'organization-key'),
    );
  } catch (error) {
    throw new LatchkeyError('KEY_INVALID', 'this root key does not open the database', {
      hint: 'use the root key that the database was made with',
      cause: error,
    });
  }
}

type Purpose =
  | 'organization-key'
  | 'lookup-key'
  | 'import-key'
  | 'lease-key'
  | 'release-key'
  | 'authority-key'
  | 'audit-key'
  | 'audit-field-key'
  | 'webhook-secret'
  | 'image-key';

function purposeOf(organizationId: string, purpose: Purpose): string {
  return `latchkey/${organizationId}/${purpose}`;
}

function webhookPurpose(organizationId: string, endpointId: string): string {
  return `${purposeOf(organizationId, 'webhook-secret')}/${endpointId}`;
}

function imageKeyPurpose(organizationId: string, imageKeyId: string): string {
  return `${purposeOf(organizationId, 'image-key')}/${imageKeyId}`;
}

function publicJwk(key: KeyObject, use: { use: string; alg: string }): string {
  const jwk: JWK = { ...(key.export({ format: 'jwk' }) as JWK), ...use };
  return JSON.stringify(jwk);
}
