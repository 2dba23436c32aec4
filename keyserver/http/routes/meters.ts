/** Meters of licenses, and reports of what was used. */
import * as z from 'zod';
import {
  meterInputSchema,
  meterName,
  meterSchema,
  reportedUsageSchema,
  usageQuerySchema,
  usageReportInputSchema,
  usageReportSchema,
} from '#src/wire/admin/meter.ts';
import { pageSchema } from '#src/wire/admin/page.ts';
import type { KeyServer } from '../../domain/key-server.ts';
import { listMeters, listUsage, reportUsage, setMeter } from '../../domain/meters.ts';
import type { AdminApp } from '../admin-app.ts';
import { ifMatchHeaders, ifMatched } from '../entity-tag.ts';

const licenseParams = z.object({ id: z.string() });
const meterParams = z.object({ id: z.string(), meter: meterName });
const WITHIN_LICENSE = { thing: 'license', parameter: 'id' } as const;

export function meterRoutes(app: AdminApp, server: KeyServer): void {
  app.get(
    '/v1/licenses/:id/meters',
    {
      config: { permission: 'usage.read', within: WITHIN_LICENSE },
      schema: {
        summary: 'List the meters of a license, by name: what was used and what was sold',
        params: licenseParams,
        response: { 200: pageSchema(meterSchema) },
      },
    },
    (request) => listMeters(server, request.params.id),
  );
  app.put(
    '/v1/licenses/:id/meters/:meter',
    {
      config: { permission: 'license.write', within: WITHIN_LICENSE },
      schema: {
        summary: 'Make a meter of a license, or change what was sold',
        params: meterParams,
        headers: ifMatchHeaders,
        body: meterInputSchema,
        response: { 200: meterSchema },
      },
    },
    async (request) => {
      const { id: licenseId, meter: name } = request.params;
      const guarded = await ifMatched(server, request, { thing: 'meter', name, licenseId });
      return setMeter(guarded, request.actor, licenseId, name, request.body);
    },
  );
  app.post(
    '/v1/licenses/:id/meters/:meter([^:]+)::report',
    {
      config: { permission: 'usage.report', within: WITHIN_LICENSE },
      schema: {
        summary: 'Count what was used; a report with the same id counts once, however often it is sent',
        params: meterParams,
        body: usageReportInputSchema,
        response: { 200: reportedUsageSchema },
      },
    },
    ({ actor, params, body }) => reportUsage(server, actor, params.id, params.meter, body),
  );
  app.get(
    '/v1/licenses/:id/usage-reports',
    {
      config: { permission: 'usage.read', within: WITHIN_LICENSE },
      schema: {
        summary: 'List what was reported under a license',
        params: licenseParams,
        querystring: usageQuerySchema,
        response: { 200: pageSchema(usageReportSchema) },
      },
    },
    (request) => listUsage(server, request.params.id, request.query),
  );
}
