/** Join tokens in the admin API. */
import * as z from 'zod';
import {
  DEFAULT_JOIN_TOKEN_LIFE_MS,
  MAX_JOIN_TOKEN_LIFE_MS,
  MAX_SEATS_PER_LICENSE,
} from '#src/base/limits.ts';
import { common, name, timeMs } from './field.ts';
import { pageQuerySchema } from './page.ts';

export const joinTokenInputSchema = z.strictObject({
  /** Nodes that it lets in. */
  uses: z.int().min(1).max(MAX_SEATS_PER_LICENSE).default(1),
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

/** Id of the license. */
export const joinTokenQuerySchema = pageQuerySchema.extend({ license: name.optional() });

export type JoinTokenQuery = z.output<typeof joinTokenQuerySchema>;

export type JoinTokenFilter = Partial<z.input<typeof joinTokenQuerySchema>>;
