/** Lists in the admin API: filters, order and pages, in one shape for all. */
import * as z from 'zod';
import { MAX_AUDIT_PAGE, MAX_CURSOR_CHARACTERS } from '#src/base/limits.ts';

/** Lists come in pages; `nextAfter` asks for the next page of the same question, null = this was the last. */
export function pageSchema<Item extends z.ZodType>(item: Item) {
  return z.object({ items: z.array(item), nextAfter: z.string().nullable() });
}

export const limit = z.coerce.number().int().min(1).max(MAX_AUDIT_PAGE).default(MAX_AUDIT_PAGE);

export const ORDERS = ['asc', 'desc'] as const;
export type Order = (typeof ORDERS)[number];

export const order = z
  .enum(ORDERS)
  .default('asc')
  .describe('By creation: asc = the oldest first, desc = the newest first');

/** A time in a query, where everything is text. */
export const queryTimeMs = z.coerce.number().int().nonnegative().max(8.64e15);

export const pageQuerySchema = z.strictObject({
  after: z
    .string()
    .max(MAX_CURSOR_CHARACTERS)
    .default('')
    .describe('`nextAfter` of the page before, with the same filters and order'),
  limit,
  order,
  createdFromMs: queryTimeMs.optional().describe('Created at this moment or later'),
  createdUntilMs: queryTimeMs.optional().describe('Created before this moment'),
});

export type PageQuery = z.infer<typeof pageQuerySchema>;

/** What a client may ask of any list; the rest is up to the list. */
export type ListFilter = Partial<z.input<typeof pageQuerySchema>>;

export interface Page<Item> {
  readonly items: Item[];
  readonly nextAfter: string | null;
}
