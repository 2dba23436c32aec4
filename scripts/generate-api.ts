// Writes docs/api.md of the OpenAPI document of a key server that it starts. Run by hand after a route or a schema
// changes (`npm run generate:api`); the output is committed, and a test compares it.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { format } from 'prettier';
import { startKeyServer } from '../lab/keyserver.ts';
import { apiMarkdown } from './api-markdown.ts';

const target = join(import.meta.dirname, '..', 'docs', 'api.md');
const server = await startKeyServer();
try {
  const document: unknown = await (await fetch(`${server.adminUrl}/v1/openapi.json`)).json();
  await writeFile(target, await format(apiMarkdown(document), { parser: 'markdown' }));
} finally {
  await server.dispose();
}
