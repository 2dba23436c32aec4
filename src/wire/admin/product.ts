/** Products in the admin API. */
import * as z from 'zod';
import { common, contact, name, productCode } from './field.ts';

export const productInputSchema = z.strictObject({ code: productCode, name, contact: contact.optional() });

export type ProductInput = z.infer<typeof productInputSchema>;

export const productSchema = z.object({
  ...common,
  code: z.string(),
  name: z.string(),
  contact: z.string().nullable(),
});

export type Product = z.infer<typeof productSchema>;
