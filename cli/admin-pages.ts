/** Lists of the admin API, read page by page. */
import type * as z from 'zod';
import { pageSchema } from '#src/wire/admin/page.ts';
import { type AdminClientOptions, checkedAnswer, requestAdminApi } from './admin-request.ts';

/** Gives all items of a list. @throws LatchkeyError what the request raises */
export async function readAllPages<Item extends z.ZodType>(
  options: AdminClientOptions,
  path: string,
  item: Item,
): Promise<z.infer<Item>[]> {
  const items: z.infer<Item>[] = [];
  let after: string | null = '';
  while (after !== null) {
    const answer = await requestAdminApi(
      options,
      'GET',
      `${path}?after=${encodeURIComponent(after)}`,
      undefined,
    );
    const page: { items: z.infer<Item>[]; nextAfter: string | null } = checkedAnswer(
      answer,
      pageSchema(item),
    );
    items.push(...page.items);
    after = page.nextAfter;
  }
  return items;
}
