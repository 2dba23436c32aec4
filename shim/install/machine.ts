/** What an installation is asked for, and what it has to know of the machine. */
import * as z from 'zod';
import { NODE_MODES } from '../agent/node-mode.ts';
import type { ProcessFacts } from './containerd-search.ts';

const path = z.string().regex(/^\//, 'must be an absolute path');

export const installRequestSchema = z.strictObject({
  /** The agent's own configuration. */
  config: path,
  keyServer: z.string().optional(),
  enrollment: z.string().optional(),
  /** PEM file to copy. */
  authority: path.optional(),
  mode: z.enum(NODE_MODES).optional(),
  runtimeClass: z.string().optional(),
  /** containerd's program, configuration and socket, where they are not found by themselves. */
  containerd: z.string().optional(),
  containerdConfig: path.optional(),
  containerdAddress: path.optional(),
  stateDirectory: path.optional(),
  runtimeDirectory: path.optional(),
  nodeName: z.string().optional(),
  dryRun: z.boolean().default(false),
});

export type InstallRequest = z.infer<typeof installRequestSchema>;

export const uninstallRequestSchema = z.strictObject({
  config: path,
  force: z.boolean().default(false),
  purge: z.boolean().default(false),
  dryRun: z.boolean().default(false),
});

export type UninstallRequest = z.infer<typeof uninstallRequestSchema>;

export interface Machine {
  readonly processes: readonly ProcessFacts[];
  /** Names of programs that can be run, out of those that are of interest. */
  readonly programs: readonly string[];
  readonly hasSystemd: boolean;
  /** Where services are written. */
  readonly units: string;
  /** Where packages put theirs. */
  readonly packagedUnits: string;
  /** Where podman and CRI-O look for hooks. */
  readonly hooks: string;
  /** Program and arguments that run the agent, without its configuration. */
  readonly agentCommand: readonly string[];
  /** `linux/amd64` */
  readonly platform: string;
}
