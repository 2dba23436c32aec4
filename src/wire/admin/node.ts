/** Nodes in the admin API. */
import * as z from 'zod';
import { NODE_STATES } from '#src/licensing/node-state.ts';
import { common, name, timeMs } from './field.ts';
import { pageQuerySchema } from './page.ts';

export const nodeSchema = z.object({
  ...common,
  name: z.string(),
  state: z.enum(NODE_STATES),
  /** Where it belongs, as it said itself; null when it did not say. */
  installation: z.string().nullable(),
  keyThumbprint: z.string(),
  certificateExpiresAtMs: timeMs,
  /** Its last lease, report or acknowledgement; null = none yet. */
  lastContactAtMs: timeMs.nullable(),
  licenseIds: z.array(z.string()),
});

export type Node = z.infer<typeof nodeSchema>;

export const nodeQuerySchema = pageQuerySchema.extend({
  state: z.enum(NODE_STATES).optional(),
  /** Id of a license that it was activated with. */
  license: name.optional(),
  /** Where it belongs. */
  installation: name.optional(),
});

export type NodeQuery = z.output<typeof nodeQuerySchema>;

export type NodeFilter = Partial<z.input<typeof nodeQuerySchema>>;

/** A node of a license, and what it has said last about refusing starts under it, as the license is now. */
export const licenseNodeSchema = z.object({
  id: z.string(),
  name: z.string(),
  state: nodeSchema.shape.state,
  /** True when it has said to act upon the newest change of the license, or on the refusal in its report. */
  hasAcknowledged: z.boolean(),
  /** The highest change that it has acknowledged; null = none yet. */
  acknowledgedRevision: z.int().nullable(),
  acknowledgedAtMs: timeMs.nullable(),
  /** Its last lease, report or acknowledgement; null = none yet. */
  lastContactMs: timeMs.nullable(),
  /** End of its last lease: so long it can start without asking; null = it has acknowledged a refusal, or has no lease. */
  canStartUntilMs: timeMs.nullable(),
  report: z
    .object({
      denialCode: z.string(),
      /** On the node's clock, as is the next. */
      startsRefusedAtMs: timeMs,
      runningContainers: z.int(),
      plaintextLayers: z.int(),
      plaintextGoneAtMs: timeMs.nullable(),
      reportedAtMs: timeMs,
    })
    .nullable(),
});

export type LicenseNode = z.infer<typeof licenseNodeSchema>;
