/** What the admin API says about itself (OpenAPI 3.1), made of the schemas that check requests and answers. */
import type { SwaggerTransform } from '@fastify/swagger';
import { jsonSchemaTransform } from 'fastify-type-provider-zod';
import * as z from 'zod';
import { ERROR_TABLE } from '#src/base/errors.ts';
import { problemSchema } from '#src/wire/admin/problem.ts';
import { PROBLEM_MEDIA_TYPE } from './problem.ts';

const answeredProblem = problemSchema.extend({ code: z.enum(Object.keys(ERROR_TABLE)) });

/** Options of the swagger plugin. */
export function apiDocument(version: string) {
  return {
    openapi: {
      openapi: '3.1.0' as const,
      info: { title: 'Latchkey admin API', version },
      components: { securitySchemes: { token: { type: 'http' as const, scheme: 'bearer' } } },
      security: [{ token: [] }],
    },
    transform: withProblems,
  };
}

/**
 * What refers to itself would be a reference to a component that nobody writes; here that is JSON of any kind, for which
 * an empty schema says the same.
 */
function withoutCycles(schemas: unknown): unknown {
  return JSON.parse(JSON.stringify(schemas ?? {}), (_key, value: unknown) =>
    typeof value === 'object' && value !== null && '$ref' in value ? {} : value,
  );
}

/** Every route may answer with a problem, and needs a permission; neither is for each route to repeat. */
const withProblems: SwaggerTransform = (route) => {
  const { schema, url } = jsonSchemaTransform(route);
  if (schema.hide === true) return { schema, url };
  const permission = route.route.config?.permission;
  return {
    url,
    schema: {
      ...schema,
      ...(permission === undefined ? {} : { description: `Needs the permission ${permission}.` }),
      response: {
        ...(withoutCycles(schema.response) as object),
        default: {
          description: 'A problem (RFC 9457), with a code to act on and a hint',
          content: { [PROBLEM_MEDIA_TYPE]: { schema: z.toJSONSchema(answeredProblem) } },
        },
      },
    },
  };
};
