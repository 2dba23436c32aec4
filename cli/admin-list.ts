/** Lists of the admin API, read page by page. */
import { MAX_AUDIT_PAGE } from '#src/base/limits.ts';
import type { Page } from '#src/wire/admin/page.ts';

type ListQuery = Readonly<Record<string, string | number | undefined>>;

/**
 * Reads all that a filter asks for, or as many as its limit.
 * @param readPage gets the query of a page, `?...`
 */
export async function readPages<Item>(
  filter: object,
  readPage: (query: string) => Promise<Page<Item>>,
): Promise<Item[]> {
  const { limit: wanted = Number.POSITIVE_INFINITY, ...filters } = filter as ListQuery & { limit?: number };
  const items: Item[] = [];
  let after: string | null = null;
  do {
    const limit = Math.min(wanted - items.length, MAX_AUDIT_PAGE);
    const page: Page<Item> = await readPage(queryText({ ...filters, limit, after: after ?? undefined }));
    items.push(...page.items);
    after = page.nextAfter;
  } while (after !== null && items.length < wanted);
  return items;
}

/** `?name=value&...` of what is not undefined. */
function queryText(query: ListQuery): string {
  const asked = Object.entries(query).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, String(value)] as [string, string]],
  );
  return asked.length === 0 ? '' : `?${new URLSearchParams(asked).toString()}`;
}
