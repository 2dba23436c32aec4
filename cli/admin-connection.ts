/** Requests to the admin API with their answers checked; what all clients of parts of it stand on. */
import type * as z from 'zod';
import { pageSchema } from '#src/wire/admin/page.ts';
import { readPages } from './admin-list.ts';
import { type AdminClientOptions, checkedAnswer, requestAdminApi } from './admin-request.ts';

/** Every method @throws LatchkeyError: the server's own, NET_UNREACHABLE, or INPUT_MALFORMED for a strange answer. */
export class AdminConnection {
  protected readonly options: AdminClientOptions;

  constructor(options: AdminClientOptions) {
    this.options = options;
  }

  protected async get<Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.infer<Schema>> {
    return checkedAnswer(await requestAdminApi(this.options, 'GET', path, undefined), schema);
  }

  protected post<Schema extends z.ZodType>(
    path: string,
    body: unknown,
    schema: Schema,
  ): Promise<z.infer<Schema>> {
    return this.change('POST', path, body, schema);
  }

  protected async change<Schema extends z.ZodType>(
    method: 'POST' | 'PUT' | 'PATCH',
    path: string,
    body: unknown,
    schema: Schema,
  ): Promise<z.infer<Schema>> {
    return checkedAnswer(await requestAdminApi(this.options, method, path, body), schema);
  }

  /** All, or as many as the filter's limit. */
  protected list<Item extends z.ZodType>(
    path: string,
    item: Item,
    filter: object = {},
  ): Promise<z.infer<Item>[]> {
    return readPages(filter, (query) => this.get(path + query, pageSchema(item)));
  }
}
