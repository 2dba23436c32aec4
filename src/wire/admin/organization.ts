/** The organization in the admin API. */
import * as z from 'zod';

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
