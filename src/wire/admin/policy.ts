/** Policies in the admin API: terms that licenses share. */
import * as z from 'zod';
import { common, name, productCode } from './field.ts';
import { termAnswers, termChanges, termInputs } from './license-terms.ts';

/** As short and plain as product codes. */
export const policyCode = productCode;

export const policyInputSchema = z.strictObject({
  code: policyCode,
  /** Default: the code. */
  name: name.optional(),
  /** A customer gets one license under such policies for each product. */
  isTrial: z.boolean().default(false),
  ...z.strictObject(termInputs).partial().shape,
});

export type PolicyInput = z.output<typeof policyInputSchema>;

export type PolicyRequest = z.input<typeof policyInputSchema>;

/** What is left out stays; null = as where nothing is said. */
export const policyUpdateSchema = z.strictObject({ name: name.optional(), ...termChanges });

export type PolicyUpdate = z.input<typeof policyUpdateSchema>;

export const policySchema = z.object({
  ...common,
  code: z.string(),
  name: z.string(),
  isTrial: z.boolean(),
  ...termAnswers,
  /** How many there are under it, revoked ones included. */
  licenses: z.int(),
});

export type Policy = z.infer<typeof policySchema>;
