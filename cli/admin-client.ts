/**
 * The admin API as functions. Answers are checked, problems come back as the LatchkeyError that the server
 * meant, and a server that cannot be reached says so in one line.
 */
import {
  type ApiToken,
  type CreatedToken,
  type TokenFilter,
  type TokenInput,
  apiTokenSchema,
  createdTokenSchema,
} from '#src/wire/admin/api-token.ts';
import {
  type AuditCheckpointAnswer,
  type AuditExport,
  type AuditFilter,
  auditCheckpointSchema,
  auditExportsSchema,
  auditPageSchema,
} from '#src/wire/admin/audit.ts';
import {
  type Customer,
  type CustomerFilter,
  type CustomerInput,
  customerSchema,
} from '#src/wire/admin/customer.ts';
import {
  type DestructionInput,
  type ElementsInput,
  type ImageKey,
  type MintedImageKey,
  type WrappedElements,
  imageKeySchema,
  mintedImageKeySchema,
  wrappedElementsSchema,
} from '#src/wire/admin/image-key.ts';
import {
  type CreatedJoinToken,
  type JoinToken,
  type JoinTokenFilter,
  type JoinTokenRequest,
  createdJoinTokenSchema,
  joinTokenSchema,
} from '#src/wire/admin/join-token.ts';
import { type Lease, type LeaseFilter, leaseSchema } from '#src/wire/admin/lease.ts';
import {
  type CreatedLicense,
  type License,
  type LicenseFilter,
  type LicenseRequest,
  type LicenseUpdate,
  createdLicenseSchema,
  licenseSchema,
} from '#src/wire/admin/license.ts';
import {
  type LicenseNode,
  type Node,
  type NodeFilter,
  licenseNodeSchema,
  nodeSchema,
} from '#src/wire/admin/node.ts';
import {
  type CheckOutRequest,
  type CheckedOut,
  type OfflineBundle,
  checkedOutSchema,
  offlineBundleSchema,
} from '#src/wire/admin/offline-bundle.ts';
import { type Organization, organizationSchema } from '#src/wire/admin/organization.ts';
import type { ListFilter } from '#src/wire/admin/page.ts';
import { type Preflight, type PreflightInput, preflightSchema } from '#src/wire/admin/preflight.ts';
import { type Product, type ProductInput, productSchema } from '#src/wire/admin/product.ts';
import {
  type Release,
  type ReleaseFilter,
  type ReleaseInput,
  type SignedRelease,
  releaseSchema,
  signedReleaseSchema,
} from '#src/wire/admin/release.ts';
import {
  type AddedSharedSlot,
  type RootKeyProof,
  type SealInput,
  type SealStatus,
  type SharedSlotInput,
  addedSharedSlotSchema,
  sealStatusSchema,
} from '#src/wire/admin/seal.ts';
import type { NodeAction } from '#src/licensing/node-state.ts';
import { type AuditEvent, auditEventSchema } from '#src/crypto/audit-chain.ts';
import { MAX_AUDIT_PAGE } from '#src/base/limits.ts';
import { AdminConnection } from './admin-connection.ts';
import { requestAdminApi } from './admin-request.ts';
import { MeterClient } from './meter-client.ts';
import { PolicyClient } from './policy-client.ts';

/** Every method @throws LatchkeyError: the server's own, NET_UNREACHABLE, or INPUT_MALFORMED for a strange answer. */
export class AdminClient extends AdminConnection {
  readonly metering = new MeterClient(this.options);
  readonly policies = new PolicyClient(this.options);

  organization(): Promise<Organization> {
    return this.get('organization', organizationSchema);
  }

  createProduct(input: ProductInput): Promise<Product> {
    return this.post('products', input, productSchema);
  }

  product(code: string): Promise<Product> {
    return this.get(`products/${encodeURIComponent(code)}`, productSchema);
  }

  products(filter: ListFilter = {}): Promise<Product[]> {
    return this.list('products', productSchema, filter);
  }

  createCustomer(input: CustomerInput): Promise<Customer> {
    return this.post('customers', input, customerSchema);
  }

  customers(filter: CustomerFilter = {}): Promise<Customer[]> {
    return this.list('customers', customerSchema, filter);
  }

  /** @param reference id, external id or name */
  customer(reference: string): Promise<Customer> {
    return this.get(`customers/${encodeURIComponent(reference)}`, customerSchema);
  }

  /** @param customer id, external id or name */
  changeCustomer(customer: string, verb: 'block' | 'unblock'): Promise<Customer> {
    return this.post(`customers/${encodeURIComponent(customer)}:${verb}`, undefined, customerSchema);
  }

  createLicense(input: LicenseRequest): Promise<CreatedLicense> {
    return this.post('licenses', input, createdLicenseSchema);
  }

  licenses(filter: LicenseFilter = {}): Promise<License[]> {
    return this.list('licenses', licenseSchema, filter);
  }

  license(id: string): Promise<License> {
    return this.get(`licenses/${encodeURIComponent(id)}`, licenseSchema);
  }

  /** The nodes that were activated with a license. */
  licenseNodes(id: string): Promise<LicenseNode[]> {
    return this.list(`licenses/${encodeURIComponent(id)}/nodes`, licenseNodeSchema);
  }

  changeLicense(id: string, verb: 'suspend' | 'reinstate' | 'revoke', reason?: string): Promise<License> {
    return this.post(`licenses/${encodeURIComponent(id)}:${verb}`, { reason }, licenseSchema);
  }

  /** Whether a node may start an image now; changes nothing. */
  preflight(input: PreflightInput): Promise<Preflight> {
    return this.post('licenses:preflight', input, preflightSchema);
  }

  /** Makes offline bundles for the nodes of the requests. */
  checkOut(licenseId: string, input: CheckOutRequest): Promise<CheckedOut> {
    return this.post(`licenses/${encodeURIComponent(licenseId)}:check-out`, input, checkedOutSchema);
  }

  offlineBundles(licenseId: string): Promise<OfflineBundle[]> {
    return this.list(`licenses/${encodeURIComponent(licenseId)}/offline-bundles`, offlineBundleSchema);
  }

  updateLicense(id: string, update: LicenseUpdate): Promise<License> {
    return this.change('PATCH', `licenses/${encodeURIComponent(id)}`, update, licenseSchema);
  }

  /** @param durationMs undefined = the license's own */
  renewLicense(id: string, durationMs?: number): Promise<License> {
    return this.post(`licenses/${encodeURIComponent(id)}:renew`, { durationMs }, licenseSchema);
  }

  createJoinToken(licenseId: string, input: JoinTokenRequest): Promise<CreatedJoinToken> {
    return this.post(`licenses/${encodeURIComponent(licenseId)}/join-tokens`, input, createdJoinTokenSchema);
  }

  joinTokens(filter: JoinTokenFilter = {}): Promise<JoinToken[]> {
    return this.list('join-tokens', joinTokenSchema, filter);
  }

  revokeJoinToken(id: string): Promise<JoinToken> {
    return this.post(`join-tokens/${encodeURIComponent(id)}:revoke`, undefined, joinTokenSchema);
  }

  leases(filter: LeaseFilter = {}): Promise<Lease[]> {
    return this.list('leases', leaseSchema, filter);
  }

  /** Makes an image key that the key server keeps to itself. */
  mintImageKey(productCode: string): Promise<MintedImageKey> {
    return this.post('image-keys', { productCode }, mintedImageKeySchema);
  }

  /** Wraps layer keys under an image key that was made this way and has no release yet. */
  wrapElements(imageKeyId: string, input: ElementsInput): Promise<WrappedElements> {
    return this.post(`image-keys/${encodeURIComponent(imageKeyId)}/elements`, input, wrappedElementsSchema);
  }

  imageKey(id: string): Promise<ImageKey> {
    return this.get(`image-keys/${encodeURIComponent(id)}`, imageKeySchema);
  }

  /** The key opens nothing from now on; repeating it leaves the day that was set first. */
  scheduleDestruction(id: string, input: DestructionInput): Promise<ImageKey> {
    return this.post(`image-keys/${encodeURIComponent(id)}/schedule-destruction`, input, imageKeySchema);
  }

  cancelDestruction(id: string): Promise<ImageKey> {
    return this.post(`image-keys/${encodeURIComponent(id)}/cancel-destruction`, undefined, imageKeySchema);
  }

  /** Repeating the same registration is harmless. */
  registerRelease(input: ReleaseInput): Promise<SignedRelease> {
    return this.post('releases', input, signedReleaseSchema);
  }

  release(id: string): Promise<SignedRelease> {
    return this.get(`releases/${encodeURIComponent(id)}`, signedReleaseSchema);
  }

  releases(filter: ReleaseFilter = {}): Promise<Release[]> {
    return this.list('releases', releaseSchema, filter);
  }

  yankRelease(id: string): Promise<Release> {
    return this.post(`releases/${encodeURIComponent(id)}:yank`, undefined, releaseSchema);
  }

  nodes(filter: NodeFilter = {}): Promise<Node[]> {
    return this.list('nodes', nodeSchema, filter);
  }

  node(id: string): Promise<Node> {
    return this.get(`nodes/${encodeURIComponent(id)}`, nodeSchema);
  }

  changeNode(id: string, verb: NodeAction): Promise<Node> {
    return this.post(`nodes/${encodeURIComponent(id)}:${verb}`, undefined, nodeSchema);
  }

  createToken(input: TokenInput): Promise<CreatedToken> {
    return this.post('api-tokens', input, createdTokenSchema);
  }

  tokens(filter: TokenFilter = {}): Promise<ApiToken[]> {
    return this.list('api-tokens', apiTokenSchema, filter);
  }

  async revokeToken(id: string): Promise<void> {
    await requestAdminApi(this.options, 'DELETE', `api-tokens/${encodeURIComponent(id)}`, undefined);
  }

  /** All events after a sequence number, oldest first, read page by page. */
  async *auditEvents(after = 0): AsyncGenerator<AuditEvent> {
    for (let last = after; ;) {
      const { items } = await this.get(`audit-events?after=${last}`, auditPageSchema);
      yield* items;
      const end = items.at(-1);
      if (end === undefined || items.length < MAX_AUDIT_PAGE) return;
      // A log whose order was tampered with must not make the reader go in circles.
      last = Math.max(last + 1, end.sequence);
    }
  }

  listAuditEvents(filter: AuditFilter): Promise<AuditEvent[]> {
    return this.list('audit-events', auditEventSchema, filter);
  }

  /** The newest signed checkpoint of the audit log. */
  auditCheckpoint(): Promise<AuditCheckpointAnswer> {
    return this.get('audit-checkpoint', auditCheckpointSchema);
  }

  /** Where the audit log is copied to. */
  async auditExports(): Promise<AuditExport[]> {
    return (await this.get('audit-exports', auditExportsSchema)).items;
  }

  /** Repeating it makes other shares, unless the label is taken by then. */
  addSharedSlot(input: SharedSlotInput): Promise<AddedSharedSlot> {
    return this.post('sys/slots', input, addedSharedSlotSchema);
  }

  async removeSlot(id: string, proof: RootKeyProof): Promise<void> {
    await requestAdminApi(this.options, 'POST', `sys/slots/${encodeURIComponent(id)}/remove`, { proof });
  }

  seal(input: SealInput): Promise<SealStatus> {
    return this.post('sys/seal', input, sealStatusSchema);
  }
}
