/** Lists in pages by id: ids are in order of creation, so a page stays right while rows are added. */
import type { Page, PageQuery } from '#src/wire/admin/page.ts';

/** Cuts a page out of rows that were read with one more than the limit. */
export function toPage<Item extends { readonly id: string }>(items: Item[], query: PageQuery): Page<Item> {
  const page = items.slice(0, query.limit);
  return { items: page, nextAfter: items.length > query.limit ? (page.at(-1)?.id ?? null) : null };
}
