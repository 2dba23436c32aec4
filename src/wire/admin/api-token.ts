/** API tokens in the admin API. */
import * as z from 'zod';
import { common, name } from './field.ts';
import { PERMISSION_SET_NAMES } from './permission.ts';

const permissionSet = z.enum(PERMISSION_SET_NAMES);

export const tokenInputSchema = z.strictObject({ name, permissionSet });

export type TokenInput = z.infer<typeof tokenInputSchema>;

export const apiTokenSchema = z.object({ ...common, name: z.string(), permissionSet });

export type ApiToken = z.infer<typeof apiTokenSchema>;

/** The only answer that ever holds a token. */
export const createdTokenSchema = z.object({ apiToken: apiTokenSchema, token: z.string() });

export type CreatedToken = z.infer<typeof createdTokenSchema>;
