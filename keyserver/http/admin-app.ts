/** The admin API as a fastify application: schemas check requests and filter answers. */
import swagger from '@fastify/swagger';
import fastify, {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import { type ZodTypeProvider, serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import { LatchkeyError } from '#src/base/errors.ts';
import { forRequest, newRequestId } from '../current-request.ts';
import { MAX_ADMIN_BODY_BYTES, MAX_ADMIN_CONNECTIONS, MAX_PATH_PARAMETER } from '../limits.ts';
import type { KeyServer } from '../domain/key-server.ts';
import { Unsealing } from '../domain/unseal.ts';
import type { Rate } from '../rate-limit.ts';
import type { KeyServerMetrics } from '../metrics/key-server-metrics.ts';
import { adminServerOptions } from './admin-server-options.ts';
import type { AdminTls } from './admin-tls.ts';
import { apiDocument } from './api-document.ts';
import { requireToken } from './authentication.ts';
import { refuseOtherConditions, sendEntityTags } from './entity-tag.ts';
import { acceptJsonAlone } from './json-body.ts';
import { collectMethods } from './other-methods.ts';
import { PROBLEM_MEDIA_TYPE, frameworkStatus, fromFrameworkError, toProblem } from './problem.ts';
import { administrationRoutes } from './routes/administration.ts';
import { auditTreeRoutes } from './routes/audit-tree.ts';
import { catalogRoutes } from './routes/catalog.ts';
import { customerRoutes } from './routes/customers.ts';
import { healthRoutes } from './routes/health.ts';
import { imageKeyRoutes } from './routes/image-keys.ts';
import { webhookRoutes } from './routes/webhooks.ts';
import { licenseRoutes } from './routes/licenses.ts';
import { policyRoutes } from './routes/policies.ts';
import { meterRoutes } from './routes/meters.ts';
import { nodeRoutes } from './routes/nodes.ts';
import { offlineBundleRoutes } from './routes/offline-bundles.ts';
import { preflightRoutes } from './routes/preflight.ts';
import { sealRoutes, unsealRoutes } from './routes/seal.ts';

export type AdminApp = ReturnType<typeof withZod>;

/** Builds the application; the caller listens. */
export async function createAdminApp(
  server: KeyServer,
  logger: Logger,
  version: string,
  tls: AdminTls | null,
  tokenRate: Rate,
  metrics: KeyServerMetrics,
): Promise<FastifyInstance> {
  const loggerInstance: FastifyBaseLogger = logger;
  const options = {
    loggerInstance,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    genReqId: newRequestId,
    bodyLimit: MAX_ADMIN_BODY_BYTES,
    forceCloseConnections: 'idle' as const,
    ...adminServerOptions(tls),
    routerOptions: { maxParamLength: MAX_PATH_PARAMETER },
    frameworkErrors: answerBadPath,
  };
  // Over TLS the type of the underlying server differs, which no route looks at.
  const app = fastify(options) as unknown as FastifyInstance;
  app.server.maxConnections = MAX_ADMIN_CONNECTIONS;
  acceptJsonAlone(app);
  answerByTheSchema(app);
  await app.register(swagger, apiDocument(version));
  observeRequests(app, metrics);
  numberRequests(app);
  app.addHook('onRequest', refuseNullCharacter);
  app.addHook('preValidation', refuseEmptyParameters);
  const unsealing = new Unsealing(server);
  const refuseOtherMethods = collectMethods(app);
  healthRoutes(app, server);
  app.get('/v1/openapi.json', { schema: { hide: true } }, () => app.swagger());
  await app.register(async (scope) => {
    requireToken(scope, server, tokenRate);
    refuseOtherConditions(scope);
    sendEntityTags(scope);
    const routes = withZod(scope);
    catalogRoutes(routes, server);
    imageKeyRoutes(routes, server);
    customerRoutes(routes, server);
    policyRoutes(routes, server);
    licenseRoutes(routes, server);
    offlineBundleRoutes(routes, server);
    nodeRoutes(routes, server);
    preflightRoutes(routes, server);
    meterRoutes(routes, server);
    administrationRoutes(routes, server);
    auditTreeRoutes(routes, server);
    sealRoutes(routes, server, unsealing);
    webhookRoutes(routes, server);
  });
  // Their own scope, so that the document has them.
  await app.register(async (scope) => {
    refuseOtherConditions(scope);
    unsealRoutes(withZod(scope), server, unsealing);
  });
  refuseOtherMethods();
  return app;
}

/** Requests and answers are what their schemas say, nothing more and nothing less; else the answer is a problem. */
export function answerByTheSchema(app: FastifyInstance): void {
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  answerWithProblems(app);
}

function withZod(app: FastifyInstance) {
  return app.withTypeProvider<ZodTypeProvider>();
}

/** Once the body has been read, what comes next is called by the connection again. */
function numberRequests(app: FastifyInstance): void {
  const number = (request: FastifyRequest, _reply: unknown, done: () => void): void => {
    forRequest(request.id, done);
  };
  app.addHook('onRequest', number);
  app.addHook('preValidation', number);
}

/** By the route as it is registered: paths hold ids. */
function observeRequests(app: FastifyInstance, metrics: KeyServerMetrics): void {
  app.addHook('onResponse', (request, reply) => {
    const { url } = request.routeOptions;
    // As the API document writes it, without what the router matches it with.
    const route =
      url === undefined ? 'none' : `${request.method} ${url.replaceAll(/\([^)]*\)/g, '').replace('::', ':')}`;
    metrics.request(route, reply.statusCode, reply.elapsedTime);
    return Promise.resolve();
  });
}

/** Why, for the operator; it never goes over the wire. */
function causeMessage(error: LatchkeyError): string | undefined {
  return error.cause instanceof Error ? error.cause.message : undefined;
}

/** No name or id has one, and not every database can even compare with it. */
function refuseNullCharacter(request: FastifyRequest): Promise<void> {
  if (!request.url.includes('%00')) return Promise.resolve();
  return Promise.reject(new LatchkeyError('USAGE_INVALID', 'the address holds a null character (%00)'));
}

/**
 * An empty parameter is a variable that somebody forgot to set, and as a time it would be read as 1970: nothing has ended by
 * then. The first page alone may be asked for with an empty `after`.
 */
function refuseEmptyParameters(request: FastifyRequest): Promise<void> {
  const parameters = Object.entries(request.query as Readonly<Record<string, unknown>>);
  const empty = parameters.find(([name, value]) => name !== 'after' && value === '');
  if (empty === undefined) return Promise.resolve();
  return Promise.reject(
    new LatchkeyError('USAGE_INVALID', `the parameter ${JSON.stringify(empty[0])} is empty`, {
      hint: 'give it a value, or leave it out',
    }),
  );
}

/** The router refuses a path before any handler; the status is then its own. */
function answerBadPath(error: FastifyError, _request: unknown, reply: FastifyReply): void {
  const problem = toProblem(fromFrameworkError(error));
  const status = frameworkStatus(error) ?? problem.status;
  void reply
    .code(status)
    .type(PROBLEM_MEDIA_TYPE)
    .serializer(JSON.stringify)
    .send({ ...problem, status });
}

function answerWithProblems(app: FastifyInstance): void {
  app.setErrorHandler((error, request, reply) => {
    const known = fromFrameworkError(error);
    const problem = toProblem(known);
    const status = frameworkStatus(error) ?? problem.status;
    const fields = { method: request.method, path: request.routeOptions.url, code: known.code };
    if (known.code === 'BUG_UNEXPECTED') request.log.error({ ...fields, err: known.cause }, known.message);
    else request.log.info({ ...fields, cause: causeMessage(known) }, known.message);
    // RFC 9110, section 15.5.2: an answer that asks for credentials says which.
    if (known.code === 'AUTH_REQUIRED') reply.header('www-authenticate', 'Bearer');
    if (known.retryAfterMs !== undefined) reply.header('retry-after', Math.ceil(known.retryAfterMs / 1000));
    return reply
      .code(status)
      .type(PROBLEM_MEDIA_TYPE)
      .serializer(JSON.stringify)
      .send({ ...problem, status });
  });
  app.setNotFoundHandler((request, reply) => {
    const problem = toProblem(
      new LatchkeyError(
        'STATE_NOT_FOUND',
        `there is no ${request.method} ${request.url.split('?')[0] ?? ''}`,
        {
          hint: 'see /v1/openapi.json',
        },
      ),
    );
    return reply.code(problem.status).type(PROBLEM_MEDIA_TYPE).send(problem);
  });
}
