/** API tokens in the admin API. */
import * as z from 'zod';
import { common, name } from './field.ts';

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
