/**
 * What the admin API (`/v1`, JSON over HTTP) takes and gives. The key server checks requests and filters
 * answers with these schemas, the client checks answers with them. Times are epoch milliseconds.
 */
import * as z from 'zod';
import { auditEventSchema } from '#src/crypto/audit-chain.ts';
import {
  DEFAULT_JOIN_TOKEN_LIFE_MS,
  DEFAULT_LEASE_DURATION_MS,
  DEFAULT_MAX_NODES,
  MAX_AUDIT_PAGE,
  MAX_ELEMENT_CHARACTERS,
  MAX_ELEMENTS_PER_REQUEST,
  MAX_INDEX_ENTRIES,
  MAX_JOIN_TOKEN_LIFE_MS,
  MAX_LEASE_DURATION_MS,
  MAX_NODES_PER_LICENSE,
  MAX_STATEMENT_ENVELOPE_BYTES,
  MIN_LEASE_DURATION_MS,
} from '#src/base/limits.ts';
import { LICENSE_STATES, ON_REVOKE } from '#src/licensing/license-state.ts';
import { NODE_STATES } from '#src/licensing/node-state.ts';
import { isDigest } from '#src/oci/digest.ts';

const name = z.string().trim().min(1).max(200);
const contact = z.string().trim().max(256);
/** Up to the last moment that a Date can hold. */
const timeMs = z.int().nonnegative().max(8.64e15);
const common = { id: z.string(), revision: z.int(), createdAtMs: timeMs, updatedAtMs: timeMs };

/** Product codes appear in commands and annotations, so they are short and plain. */
const productCode = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,62}$/,
    'lower-case letters, digits, dots, dashes and underscores, at most 63',
  );
const imageKeyId = z.string().regex(/^[A-Za-z0-9._:-]{1,128}$/, 'letters, digits and . _ : -, at most 128');
const digest = z.string().refine(isDigest, 'not a sha256 digest');

export const organizationSchema = z.object({
  id: z.string(),
  name: z.string(),
  contact: z.string(),
  revision: z.int(),
  /** Seal image keys to this key (JWE, ECDH-ES+A256KW, A256GCM). */
  importPublicKeyJwk: z.record(z.string(), z.unknown()),
  /** Verifies leases (Ed25519). */
  leaseVerificationJwk: z.record(z.string(), z.unknown()),
  /** Verifies release statements (Ed25519). */
  releaseVerificationJwk: z.record(z.string(), z.unknown()),
  /** PEM; verifies this server towards nodes, and nodes towards this server. */
  authorityCertificate: z.string(),
});
export type Organization = z.infer<typeof organizationSchema>;

export const productInputSchema = z.strictObject({ code: productCode, name, contact: contact.optional() });
export type ProductInput = z.infer<typeof productInputSchema>;
export const productSchema = z.object({
  ...common,
  code: z.string(),
  name: z.string(),
  contact: z.string().nullable(),
});
export type Product = z.infer<typeof productSchema>;

export const customerInputSchema = z.strictObject({ name, externalId: name.optional() });
export type CustomerInput = z.infer<typeof customerInputSchema>;
export const customerSchema = z.object({
  ...common,
  name: z.string(),
  externalId: z.string().nullable(),
  state: z.enum(['ACTIVE', 'BLOCKED']),
});
export type Customer = z.infer<typeof customerSchema>;

export const licenseInputSchema = z.strictObject({
  /** Id, external id or name. */
  customer: name,
  /** Code. */
  product: name,
  plan: name.optional(),
  startsAtMs: timeMs.optional(),
  expiresAtMs: timeMs.optional(),
  maxNodes: z.int().min(1).max(MAX_NODES_PER_LICENSE).default(DEFAULT_MAX_NODES),
  leaseDurationMs: z
    .int()
    .min(MIN_LEASE_DURATION_MS)
    .max(MAX_LEASE_DURATION_MS)
    .default(DEFAULT_LEASE_DURATION_MS),
  onRevoke: z.enum(ON_REVOKE).default('deny-start'),
  contact: contact.optional(),
});
/** As checked, with defaults filled in. */
export type LicenseInput = z.output<typeof licenseInputSchema>;
export type LicenseRequest = z.input<typeof licenseInputSchema>;
export const licenseSchema = z.object({
  ...common,
  customerId: z.string(),
  customerName: z.string(),
  productCode: z.string(),
  plan: z.string().nullable(),
  /** The state now; time decides between ACTIVE, NOT_STARTED and EXPIRED. */
  state: z.enum(LICENSE_STATES),
  epoch: z.int(),
  reason: z.string().nullable(),
  keyLast4: z.string(),
  startsAtMs: timeMs.nullable(),
  expiresAtMs: timeMs.nullable(),
  maxNodes: z.int(),
  usedNodes: z.int(),
  leaseDurationMs: z.int(),
  onRevoke: z.enum(ON_REVOKE),
  contact: z.string().nullable(),
});
export type License = z.infer<typeof licenseSchema>;
/** The only answer that ever holds a license key. */
export const createdLicenseSchema = z.object({ license: licenseSchema, licenseKey: z.string() });
export type CreatedLicense = z.infer<typeof createdLicenseSchema>;

export const licenseChangeInputSchema = z.strictObject({ reason: z.string().trim().max(500).optional() });

export const joinTokenInputSchema = z.strictObject({
  /** Nodes that it lets in. */
  uses: z.int().min(1).max(MAX_NODES_PER_LICENSE).default(1),
  lifeMs: z.int().min(1000).max(MAX_JOIN_TOKEN_LIFE_MS).default(DEFAULT_JOIN_TOKEN_LIFE_MS),
});
export type JoinTokenInput = z.output<typeof joinTokenInputSchema>;
export type JoinTokenRequest = z.input<typeof joinTokenInputSchema>;
export const joinTokenSchema = z.object({
  ...common,
  licenseId: z.string(),
  usesLeft: z.int(),
  expiresAtMs: timeMs,
  revokedAtMs: timeMs.nullable(),
});
export type JoinToken = z.infer<typeof joinTokenSchema>;
/** The only answer that ever holds a join token. */
export const createdJoinTokenSchema = z.object({ joinToken: joinTokenSchema, token: z.string() });
export type CreatedJoinToken = z.infer<typeof createdJoinTokenSchema>;

export const mintedImageKeyInputSchema = z.strictObject({ productCode: name });
export type MintedImageKeyInput = z.infer<typeof mintedImageKeyInputSchema>;
/** An image key that never leaves the key server. */
export const mintedImageKeySchema = z.object({
  id: z.string(),
  organizationId: z.string(),
  /** Shown where a node has no license to name; '' = nobody. */
  contact: z.string(),
});
export type MintedImageKey = z.infer<typeof mintedImageKeySchema>;

export const elementsInputSchema = z.strictObject({
  items: z
    .array(
      z.union([
        /** Compact JWE of a layer's private options, to the organization's import public key. */
        z.strictObject({ sealedOptions: z.string().max(MAX_ELEMENT_CHARACTERS) }),
        /** An element of a layer of a registered image of the same product, and that image's manifest. */
        z.strictObject({ element: z.base64().min(1).max(MAX_ELEMENT_CHARACTERS), imageDigest: digest }),
      ]),
    )
    .min(1)
    .max(MAX_ELEMENTS_PER_REQUEST),
});
export type ElementsInput = z.input<typeof elementsInputSchema>;
export const wrappedElementsSchema = z.object({
  /** In the order of the request. */
  elements: z.array(
    z.object({
      /** Base64; of the annotation for the key provider `latchkey`. */
      element: z.base64(),
      /** Of a layer taken over: its diff ID before it was salted; null when that is not known. */
      sourceDiffId: digest.nullable(),
    }),
  ),
});
export type WrappedElements = z.infer<typeof wrappedElementsSchema>;

export const releaseInputSchema = z.strictObject({
  productCode: name,
  repository: z.string().trim().min(1).max(512),
  version: z.string().trim().min(1).max(256),
  /** The image's index and every manifest in it. */
  imageDigests: z.array(digest).min(1).max(MAX_INDEX_ENTRIES),
  imageKeyId,
  /** Compact JWE of the 32-byte image key, to the organization's import public key; none for one made here. */
  sealedImageKey: z.string().max(4096).optional(),
  /** DSSE envelope (JSON) of the release statement; the vendor may have signed it, the key server adds its signature. */
  statement: z.string().max(MAX_STATEMENT_ENVELOPE_BYTES).optional(),
});
export type ReleaseInput = z.input<typeof releaseInputSchema>;
export const releaseSchema = z.object({
  ...common,
  productCode: z.string(),
  repository: z.string(),
  version: z.string(),
  imageKeyId: z.string(),
  state: z.enum(['PUBLISHED', 'YANKED']),
  imageDigests: z.array(z.string()),
});
export type Release = z.infer<typeof releaseSchema>;
/** A release with its statement, signed; null for one that was registered without. */
export const signedReleaseSchema = releaseSchema.extend({ statement: z.string().nullable() });
export type SignedRelease = z.infer<typeof signedReleaseSchema>;

export const nodeSchema = z.object({
  ...common,
  name: z.string(),
  state: z.enum(NODE_STATES),
  /** Where it belongs, as it said itself; null when it did not say. */
  installation: z.string().nullable(),
  keyThumbprint: z.string(),
  certificateExpiresAtMs: timeMs,
  licenseIds: z.array(z.string()),
});
export type Node = z.infer<typeof nodeSchema>;

/** A node of a license, and what it has said last about refusing starts under it, as the license is now. */
export const licenseNodeSchema = z.object({
  id: z.string(),
  name: z.string(),
  state: nodeSchema.shape.state,
  /** Its last lease or report; null = neither yet. */
  lastContactMs: timeMs.nullable(),
  report: z
    .object({
      denialCode: z.string(),
      /** On the node's clock, as is the next. */
      startsRefusedAtMs: timeMs,
      runningContainers: z.int(),
      plaintextLayers: z.int(),
      plaintextGoneAtMs: timeMs.nullable(),
      reportedAtMs: timeMs,
    })
    .nullable(),
});
export type LicenseNode = z.infer<typeof licenseNodeSchema>;

export const leaseSchema = z.object({
  id: z.string(),
  licenseId: z.string(),
  epoch: z.int(),
  nodeId: z.string(),
  imageDigest: z.string(),
  imageKeyId: z.string(),
  previousLeaseId: z.string().nullable(),
  issuedAtMs: timeMs,
  renewAtMs: timeMs,
  expiresAtMs: timeMs,
});
export type Lease = z.infer<typeof leaseSchema>;

export const TOKEN_SCOPES = ['admin', 'release'] as const;
/**
 * `release` (for CI): read the organization and its products, register releases, and have layer keys wrapped under image
 * keys that the key server makes; nothing else, and no key is ever shown to it.
 */
export type TokenScope = (typeof TOKEN_SCOPES)[number];
export const tokenInputSchema = z.strictObject({ name, scope: z.enum(TOKEN_SCOPES) });
export type TokenInput = z.infer<typeof tokenInputSchema>;
export const apiTokenSchema = z.object({ ...common, name: z.string(), scope: z.enum(TOKEN_SCOPES) });
export type ApiToken = z.infer<typeof apiTokenSchema>;
/** The only answer that ever holds a token. */
export const createdTokenSchema = z.object({ apiToken: apiTokenSchema, token: z.string() });
export type CreatedToken = z.infer<typeof createdTokenSchema>;

/** Lists come in pages, in the order of ids; `nextAfter` asks for the next page, null = this was the last. */
export function pageSchema<Item extends z.ZodType>(item: Item) {
  return z.object({ items: z.array(item), nextAfter: z.string().nullable() });
}
const limit = z.coerce.number().int().min(1).max(MAX_AUDIT_PAGE).default(MAX_AUDIT_PAGE);
export const pageQuerySchema = z.strictObject({ after: z.string().default(''), limit });
export type PageQuery = z.infer<typeof pageQuerySchema>;
export interface Page<Item> {
  readonly items: Item[];
  readonly nextAfter: string | null;
}

/** Events after a sequence number, oldest first. */
export const auditQuerySchema = z.strictObject({
  after: z.coerce.number().int().nonnegative().default(0),
  limit,
});
export type AuditQuery = z.infer<typeof auditQuerySchema>;
export const auditPageSchema = z.object({ items: z.array(auditEventSchema) });

/** RFC 9457, with our code and hint. */
export const problemSchema = z.object({
  type: z.literal('about:blank'),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.string(),
  hint: z.string().optional(),
});
export type Problem = z.infer<typeof problemSchema>;
