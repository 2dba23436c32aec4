/** The reference of the admin API as Markdown, made of its OpenAPI document and of nothing else. */
import * as z from 'zod';

/** The part of JSON Schema that the document uses. */
interface Schema {
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly additionalProperties?: boolean | Schema;
  readonly anyOf?: readonly Schema[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly default?: unknown;
  readonly description?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly minItems?: number;
  readonly maxItems?: number;
}

const contentSchema = z.record(z.string(), z.object({ schema: z.custom<Schema>() }));

const operationSchema = z.object({
  summary: z.string(),
  description: z.string().optional(),
  parameters: z
    .array(
      z.object({
        name: z.string(),
        in: z.string(),
        required: z.boolean().default(false),
        description: z.string().optional(),
        schema: z.custom<Schema>(),
      }),
    )
    .default([]),
  requestBody: z.object({ content: contentSchema }).optional(),
  responses: z.record(z.string(), z.object({ content: contentSchema.optional() })),
});

type Operation = z.infer<typeof operationSchema>;

const documentSchema = z.object({
  paths: z.record(z.string(), z.record(z.string(), operationSchema)),
});

const HEAD = `# Admin API

Made by \`npm run generate:api\` of the OpenAPI document that every key server serves at \`/v1/openapi.json\`; do not edit it.

Requests carry an API token: \`Authorization: Bearer lkt_...\`. Bodies and answers are JSON; times are milliseconds since 1970,
UTC. An answer holds no field that is not listed here. Errors are problems (RFC 9457) with a \`code\`, which the
[release engineer's guide](release-engineer-guide.md) lists, and a \`hint\`. Creates take an \`Idempotency-Key\`; single
resources have an \`ETag\`, which changes that list \`If-Match\` take, and all others refuse; lists take \`after\`, \`limit\`,
\`order\` and filters ([admin guide](admin-guide.md)).
`;

/**
 * Writes the reference.
 * @throws ZodError for a document that has something it does not know
 */
export function apiMarkdown(document: unknown): string {
  const { paths } = documentSchema.parse(document);
  const sections = new Map<string, string[]>();
  for (const path of Object.keys(paths).sort()) {
    const resource = /^\/v1\/([^/:]+)/.exec(path)?.[1] ?? path;
    const texts = sections.get(resource) ?? [];
    for (const [method, operation] of Object.entries(paths[path] ?? {}))
      texts.push(operationText(`${method.toUpperCase()} ${path}`, operation));
    sections.set(resource, texts);
  }
  const body = [...sections].map(([resource, texts]) => `## ${resource}\n\n${texts.join('\n')}`);
  return `${HEAD}\n${body.join('\n')}`;
}

function operationText(name: string, operation: Operation): string {
  const { summary, description, parameters, requestBody, responses } = operation;
  const parts = [`### ${name}`, `${summary}. ${description ?? ''}`.trim()];
  if (parameters.length > 0) {
    parts.push(
      table(
        ['parameter', 'in', 'type', ''],
        parameters.map((one) => [
          code(one.name) + (one.required ? ' (required)' : ''),
          one.in,
          typeText(one.schema),
          one.description ?? one.schema.description ?? '',
        ]),
      ),
    );
  }
  const body = Object.values(requestBody?.content ?? {})[0]?.schema;
  if (body !== undefined) parts.push('Body:', fieldTable(body));
  for (const [status, { content }] of Object.entries(responses)) {
    if (!status.startsWith('2')) continue;
    const schema = Object.values(content ?? {})[0]?.schema;
    if (schema === undefined || schema.type === 'null') parts.push(`Answer ${status}, without content.`);
    else parts.push(`Answer ${status}:`, fieldTable(schema));
  }
  return `${parts.join('\n\n')}\n`;
}

function fieldTable(schema: Schema): string {
  const rows = fieldsOf(schema, '');
  return rows.length === 0 ? typeText(schema) : table(['field', 'type', ''], rows);
}

/** One row for each field, those of objects within under their path: \`items[].id\`. */
function fieldsOf(schema: Schema, path: string): string[][] {
  const alternatives = (schema.anyOf ?? []).filter(({ type }) => type !== 'null');
  if (alternatives.length > 0) {
    return alternatives.flatMap((one, index) => {
      const place = alternatives.length === 1 ? path : `${path}#${index + 1}`;
      return fieldsOf(one, place);
    });
  }
  if (schema.items !== undefined) return fieldsOf(schema.items, `${path}[]`);
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const place = path === '' ? name : `${path}.${name}`;
    const isRequired = schema.required?.includes(name) === true && field.default === undefined;
    const row = [code(place) + (isRequired ? '' : ' (optional)'), typeText(field), field.description ?? ''];
    return [row, ...fieldsOf(field, place)];
  });
}

function typeText(schema: Schema): string {
  const { anyOf, items, type, properties, additionalProperties } = schema;
  const limits = limitsOf(schema);
  const withLimits = (text: string): string => (limits === '' ? text : `${text}, ${limits}`);
  if (anyOf !== undefined) return withLimits([...new Set(anyOf.map(typeText))].join(' or '));
  if (schema.const !== undefined) return code(JSON.stringify(schema.const));
  if (schema.enum !== undefined)
    return withLimits(schema.enum.map((value) => code(String(value))).join(', '));
  if (items !== undefined) return withLimits(`list of ${typeText(items)}`);
  if (typeof additionalProperties === 'object' && properties === undefined)
    return withLimits(`map to ${typeText(additionalProperties)}`);
  return withLimits(type === undefined ? 'any' : [type].flat().join(' or '));
}

/** Of a Date: every time has it. */
const LAST_TIME_MS = 8.64e15;

function limitsOf(schema: Schema): string {
  const { minimum, maximum, minLength, maxLength, minItems, maxItems, pattern } = schema;
  const isNoLimit = (limit: number) => [Number.MAX_SAFE_INTEGER, LAST_TIME_MS].includes(Math.abs(limit));
  const range = (least: number | undefined, most: number | undefined, unit: string): string[] => {
    const parts = [
      least === undefined || isNoLimit(least) ? '' : `at least ${least}`,
      most === undefined || isNoLimit(most) ? '' : `at most ${most}`,
    ].filter((part) => part !== '');
    return parts.length === 0 ? [] : [parts.join(' and ') + unit];
  };
  return [
    ...range(minimum, maximum, ''),
    ...range(minLength, maxLength, ' characters'),
    ...range(minItems, maxItems, ' items'),
    ...(pattern === undefined || pattern.length > 80 ? [] : [code(pattern)]),
    ...(schema.default === undefined ? [] : [`default ${code(JSON.stringify(schema.default))}`]),
  ].join(', ');
}

function code(text: string): string {
  return `\`${text.replaceAll('|', '\\|')}\``;
}

function table(headers: readonly string[], rows: readonly (readonly string[])[]): string {
  // A last column without any text is left out.
  const width = rows.every((row) => row.at(-1) === '') ? headers.length - 1 : headers.length;
  const line = (cells: readonly string[]) => `| ${cells.slice(0, width).join(' | ')} |`;
  return [line(headers), line(headers.map(() => '---')), ...rows.map(line)].join('\n');
}
