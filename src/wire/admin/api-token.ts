/** API tokens in the admin API. */
import * as z from 'zod';
import { MINUTE_MS } from '#src/base/units.ts';
import { common, name, timeMs } from './field.ts';
import { pageQuerySchema } from './page.ts';
import { PERMISSION_SET_NAMES } from './permission.ts';

const permissionSet = z.enum(PERMISSION_SET_NAMES);

export const API_TOKEN_STATES = ['ACTIVE', 'EXPIRED', 'REVOKED'] as const;
export type ApiTokenState = (typeof API_TOKEN_STATES)[number];

export const tokenInputSchema = z.strictObject({
  name,
  permissionSet,
  /** From now; default = 90 days. */
  lifetimeMs: z.int().min(MINUTE_MS).optional(),
  /** Code: the token sees and changes this product alone. */
  product: name.optional(),
  /** Id, external id or name: the token sees and changes this customer alone. */
  customer: name.optional(),
});

export type TokenInput = z.infer<typeof tokenInputSchema>;

export const apiTokenSchema = z.object({
  ...common,
  name: z.string(),
  permissionSet,
  /** The state now; only an ACTIVE one lets anybody in. */
  state: z.enum(API_TOKEN_STATES),
  /** Null = it has no end: the first token. */
  expiresAtMs: timeMs.nullable(),
  /** To the minute; null = never. */
  lastUsedAtMs: timeMs.nullable(),
  revokedAtMs: timeMs.nullable(),
  /** Null = all products. */
  productId: z.string().nullable(),
  /** Null = all customers. */
  customerId: z.string().nullable(),
});

export type ApiToken = z.infer<typeof apiTokenSchema>;

export const tokenQuerySchema = pageQuerySchema.extend({
  permissionSet: permissionSet.optional(),
  /** As `state` of a token is now. */
  state: z.enum(API_TOKEN_STATES).optional(),
  /** Code: tokens for this product alone. */
  product: name.optional(),
  /** Id, external id or name: tokens for this customer alone. */
  customer: name.optional(),
});

export type TokenQuery = z.output<typeof tokenQuerySchema>;

export type TokenFilter = Partial<z.input<typeof tokenQuerySchema>>;

/** The only answer that ever holds a token. */
export const createdTokenSchema = z.object({ apiToken: apiTokenSchema, token: z.string() });

export type CreatedToken = z.infer<typeof createdTokenSchema>;
