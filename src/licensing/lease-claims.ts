/**
 * What a lease says. A lease is a compact JWS (RFC 7515, EdDSA over Ed25519, `typ` = "lease+jwt"), or shares one with
 * those that were renewed with it (`typ` = "lease-list+jwt", see src/crypto/sign-token.ts); the key server signs it, the node verifies it offline. Times are milliseconds, unlike RFC 7519's seconds, because
 * tests and short leases need them; hence our own names and no `exp`.
 */
import * as z from 'zod';
import { LatchkeyError, type LatchkeyErrorOptions } from '#src/base/errors.ts';
import { isDigest } from '#src/oci/digest.ts';

export const LEASE_TOKEN_TYPE = 'lease+jwt';
export const LEASE_LIST_TOKEN_TYPE = 'lease-list+jwt';
export const LEASE_TOKEN_TYPES = { type: LEASE_TOKEN_TYPE, listType: LEASE_LIST_TOKEN_TYPE } as const;

/** The event of the key server's audit log that tells of the lease: who has it can show that it is missing there. */
export const leaseReceiptSchema = z.strictObject({
  sequence: z.int().positive(),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
});

export type LeaseReceipt = z.infer<typeof leaseReceiptSchema>;

export const leaseClaimsSchema = z.strictObject({
  leaseId: z.string(),
  organizationId: z.string(),
  nodeId: z.string(),
  /** RFC 7638 thumbprint of the node's public key: a lease is of no use to another node. */
  nodeKeyThumbprint: z.string(),
  licenseId: z.string(),
  /** The license's epoch when the lease was cut; a change of the license voids it. */
  epoch: z.int().nonnegative(),
  imageDigest: z.string().refine(isDigest, 'not a sha256 digest'),
  imageKeyId: z.string(),
  issuedAtMs: z.int().nonnegative(),
  /** When the node should ask for a new one. */
  renewAtMs: z.int().nonnegative(),
  expiresAtMs: z.int().nonnegative(),
  /** Set when the license ends before this lease may, and everything goes on as before until its grace ends too. */
  grace: z.strictObject({ fromMs: z.int().nonnegative(), untilMs: z.int().nonnegative() }).optional(),
  /** Until when a node that reaches no key server may use it; absent = until it expires. */
  connectivityGraceUntilMs: z.int().nonnegative().optional(),
  /** Highest change of any license when the lease was cut. */
  revision: z.int().nonnegative(),
  /** What happens to running containers when the license is revoked. */
  onRevoke: z.enum(['deny-start', 'stop', 'kill']),
  /** The ISV's contact line, for denials after the lease has ended. */
  contact: z.string(),
  /** Undefined in leases of before there were receipts. */
  receipt: leaseReceiptSchema.optional(),
  /** Claims that whoever does not know them may ignore: they take nothing away. */
  ignorable: z.array(z.string()).optional(),
});

export type LeaseClaims = z.infer<typeof leaseClaimsSchema>;

/** What is wrong with claims is told as far as this. */
const MAX_REASON_CHARACTERS = 400;

const knownClaimsSchema = leaseClaimsSchema.strip();
const ignorableSchema = knownClaimsSchema.pick({ ignorable: true });

/**
 * Reads what a newer key server may have written: an unknown claim could be a restriction, so it is refused unless the
 * lease says that it may be ignored. Within known claims nothing unknown is.
 * @throws LatchkeyError DENIED_LEASE_INVALID
 */
export function parseLeaseClaims(value: unknown): LeaseClaims {
  const { ignorable = [] } = checked(ignorableSchema.safeParse(value));
  const refused = Object.keys(value as object).filter(
    (name) => !Object.hasOwn(leaseClaimsSchema.shape, name) && !ignorable.includes(name),
  );
  if (refused.length > 0) {
    const names = refused.map((name) => JSON.stringify(name)).join(', ');
    throw invalidClaims(`it may not be used without knowing ${names}`, {
      hint: 'the key server is newer than this node: install a newer latchkey on it',
    });
  }
  return checked(knownClaimsSchema.safeParse(value));
}

function checked<Claims>(parsed: z.ZodSafeParseResult<Claims>): Claims {
  if (parsed.success) return parsed.data;
  throw invalidClaims(parsed.error.message, { cause: parsed.error });
}

function invalidClaims(reason: string, options: LatchkeyErrorOptions): LatchkeyError {
  return new LatchkeyError('DENIED_LEASE_INVALID', reason.slice(0, MAX_REASON_CHARACTERS), options);
}
