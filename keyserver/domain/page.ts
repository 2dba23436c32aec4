/**
 * Lists in pages by id: ids are in order of creation, so a page stays right while rows are added. Where a page ends is a
 * cursor that only this key server can make, and that belongs to one question: another list, filter or order refuses it.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { type Expression, type SqlBool, sql } from 'kysely';
import { LatchkeyError } from '#src/base/errors.ts';
import { canonicalJson } from '#src/base/json.ts';
import type { Order, Page, PageQuery } from '#src/wire/admin/page.ts';
import { type IdPrefix, idsFrom } from './ids.ts';

const CURSOR_MAC_BYTES = 16;
/** Ids begin with a letter, which is before it. */
const AFTER_ALL_IDS = '~';

/** Which list it is; the ids that it is in the order of. */
export interface ListName {
  readonly name: string;
  readonly prefix: IdPrefix;
}

/** What a list's query needs to give one page. */
export interface ListPage {
  readonly order: Order;
  /** One more than the page holds, to see whether there is a next one. */
  readonly rows: number;
  /** Ids of the page are after the first and before the second. */
  readonly bounds: readonly [string, string];
  /** The same as a condition on the column of the ids. */
  isOn(column: string): Expression<SqlBool>;
  /** Makes the page of what was read. */
  cut<Item extends { readonly id: string }>(items: Item[]): Page<Item>;
}

/**
 * Reads which page is asked for.
 * @param cursorKey a secret that all key servers on a database share
 * @throws LatchkeyError USAGE_INVALID for a cursor that is not of this question
 */
export function openPage(cursorKey: Uint8Array, list: ListName, query: PageQuery): ListPage {
  const { after, limit, order, createdFromMs, createdUntilMs, ...filters } = query;
  const question = canonicalJson({
    ...definedOnly({ ...filters, createdFromMs, createdUntilMs }),
    list: list.name,
    order,
  });
  const macOf = (id: string): Buffer =>
    createHmac('sha256', cursorKey)
      .update(`page-cursor\n${question}\n${id}`)
      .digest()
      .subarray(0, CURSOR_MAC_BYTES);
  const last = after === '' ? null : openCursor(after, macOf);
  const first = createdFromMs === undefined ? '' : idsFrom(list.prefix, createdFromMs);
  const end = createdUntilMs === undefined ? AFTER_ALL_IDS : idsFrom(list.prefix, createdUntilMs);
  const [low, high] = order === 'asc' ? [last ?? first, end] : [first, last ?? end];
  return {
    order,
    rows: limit + 1,
    bounds: [low, high],
    isOn: (column) => sql<SqlBool>`(${sql.ref(column)} > ${low} and ${sql.ref(column)} < ${high})`,
    cut: (items) => {
      const page = items.slice(0, limit);
      const lastId = items.length > limit ? page.at(-1)?.id : undefined;
      if (lastId === undefined) return { items: page, nextAfter: null };
      return {
        items: page,
        nextAfter: Buffer.concat([macOf(lastId), Buffer.from(lastId)]).toString('base64url'),
      };
    },
  };
}

function openCursor(cursor: string, macOf: (id: string) => Buffer): string {
  const bytes = Buffer.from(cursor, 'base64url');
  const id = bytes.subarray(CURSOR_MAC_BYTES).toString();
  const mac = macOf(id);
  if (
    bytes.length > CURSOR_MAC_BYTES &&
    bytes.toString('base64url') === cursor &&
    timingSafeEqual(mac, bytes.subarray(0, CURSOR_MAC_BYTES))
  )
    return id;
  throw new LatchkeyError('USAGE_INVALID', '`after` is not a cursor of this list', {
    hint: 'give nextAfter of the page before, with the same filters and order, or nothing for the first page',
  });
}

function definedOnly(filters: Readonly<Record<string, unknown>>): Record<string, string | number> {
  return Object.fromEntries(
    Object.entries(filters).filter((entry): entry is [string, string | number] =>
      ['string', 'number'].includes(typeof entry[1]),
    ),
  );
}
