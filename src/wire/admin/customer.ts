/** Customers in the admin API. */
import * as z from 'zod';
import { common, name } from './field.ts';
import { pageQuerySchema } from './page.ts';

export const customerInputSchema = z.strictObject({ name, externalId: name.optional() });

export type CustomerInput = z.infer<typeof customerInputSchema>;

export const customerSchema = z.object({
  ...common,
  name: z.string(),
  externalId: z.string().nullable(),
  state: z.enum(['ACTIVE', 'BLOCKED']),
});

export type Customer = z.infer<typeof customerSchema>;

export const customerQuerySchema = pageQuerySchema.extend({
  state: customerSchema.shape.state.optional(),
  name: name.optional(),
  externalId: name.optional(),
});

export type CustomerQuery = z.output<typeof customerQuerySchema>;

export type CustomerFilter = Partial<z.input<typeof customerQuerySchema>>;
