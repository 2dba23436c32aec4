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
        ...(schema.response as object),
        default: {
          description: 'A problem (RFC 9457), with a code to act on and a hint',
          content: { [PROBLEM_MEDIA_TYPE]: { schema: z.toJSONSchema(answeredProblem) } },
        },
      },
    },
  };
};
