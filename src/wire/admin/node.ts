/** Nodes in the admin API. */
import * as z from 'zod';
import { NODE_STATES } from '#src/licensing/node-state.ts';
import { common, timeMs } from './field.ts';

export const nodeSchema = z.object({
  ...common,
  name: z.string(),
  state: z.enum(NODE_STATES),
  /** Where it belongs, as it said itself; null when it did not say. */
  installation: z.string().nullable(),
  keyThumbprint: z.string(),
  certificateExpiresAtMs: timeMs,
  licenseIds: z.array(z.string()),
});

export type Node = z.infer<typeof nodeSchema>;

/** A node of a license, and what it has said last about refusing starts under it, as the license is now. */
export const licenseNodeSchema = z.object({
  id: z.string(),
  name: z.string(),
  state: nodeSchema.shape.state,
  /** Its last lease or report; null = neither yet. */
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
