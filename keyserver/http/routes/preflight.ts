/** Asking before gigabytes are pulled: may this node start this image? */
import { type Preflight, preflightInputSchema, preflightSchema } from '#src/wire/admin/preflight.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { type PreflightAnswer, preflight } from '../../domain/preflight.ts';
import type { AdminApp } from '../admin-app.ts';

export function preflightRoutes(app: AdminApp, server: KeyServer): void {
  app.post(
    '/v1/licenses::preflight',
    {
      config: { permission: 'license.read' },
      schema: {
        summary: 'Say whether a node may start an image now, and if not, why; changes nothing',
        body: preflightInputSchema,
        response: { 200: preflightSchema },
      },
    },
    async ({ body }) => {
      const question = { keyThumbprint: null, nodeTimeMs: null, imageKeyId: body.imageKeyId ?? null };
      const { nodeId, imageDigest } = body;
      return {
        nodeId,
        imageDigest,
        ...toAnswer(await preflight(server, { ...question, nodeId, imageDigest })),
      };
    },
  );
}

function toAnswer({ license, denial, version }: PreflightAnswer): Omit<Preflight, 'nodeId' | 'imageDigest'> {
  return {
    allowed: denial === null,
    licenseId: license?.licenseId ?? denial?.licenseId ?? null,
    version,
    code: denial?.code ?? null,
    message: denial?.message ?? null,
    hint: denial?.hint ?? null,
    contact: denial?.contact ?? null,
  };
}
