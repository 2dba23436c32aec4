/** Pages of lists in the admin API. */
import * as z from 'zod';
import { MAX_AUDIT_PAGE } from '#src/base/limits.ts';

/** Lists come in pages, in the order of ids; `nextAfter` asks for the next page, null = this was the last. */
export function pageSchema<Item extends z.ZodType>(item: Item) {
  return z.object({ items: z.array(item), nextAfter: z.string().nullable() });
}

export const limit = z.coerce.number().int().min(1).max(MAX_AUDIT_PAGE).default(MAX_AUDIT_PAGE);

export const pageQuerySchema = z.strictObject({ after: z.string().default(''), limit });

export type PageQuery = z.infer<typeof pageQuerySchema>;

export interface Page<Item> {
  readonly items: Item[];
  readonly nextAfter: string | null;
}
