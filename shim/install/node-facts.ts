/** Gathers what the doctor has to know of this machine. It changes nothing, and asks only the agent and the key server's port. */
import { stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { VERSION } from '#src/base/installation.ts';
import { AgentConnection } from '#src/wire/agent-connection.ts';
import { type AgentConfig, DEFAULT_CONFIG_PATH, parseAgentConfig } from '../agent/agent-config.ts';
import { servesSnapshots } from '../agent/node-mode.ts';
import { DEFAULT_SETTINGS } from './agent-presence.ts';
import { containerdFacts } from './containerd-facts.ts';
import { type Finding } from './finding.ts';
import { diagnose } from './doctor.ts';
import type { HookFacts } from './doctor-hook.ts';
import { type InstallationRecord, readRecord } from './installation-record.ts';
import { machineFacts, storeFacts } from './machine-facts.ts';
import { HOOKS_DIRECTORY, hookFilePath } from './oci-hook.ts';
import { readIfThere } from './planned-file.ts';
import { listProcesses } from './processes.ts';

/** A firewall that drops packets answers nothing at all. */
const REACH_TIMEOUT_MS = 3000;

export const doctorRequestSchema = z.strictObject({
  config: z.string(),
  containerd: z.string().optional(),
  containerdConfig: z.string().optional(),
  /** A key server's root key file on the same machine. */
  rootKey: z.string().optional(),
});

export type DoctorRequest = z.infer<typeof doctorRequestSchema>;

/**
 * Every check of this machine with its finding.
 * @throws LatchkeyError CONFIG_INVALID when the agent's configuration cannot be read; USAGE_INVALID for a root key that
 *   is not there
 */
export async function examine(request: DoctorRequest): Promise<{ findings: Finding[] }> {
  if (request.rootKey !== undefined && !(await isThere(request.rootKey)))
    throw new LatchkeyError('USAGE_INVALID', `there is no root key ${request.rootKey}`, {
      hint: "name the key server's file, or leave --root-key out where none runs here",
    });
  const config = await loadConfig(request.config);
  const { paths, mode } = config;
  const record = await readRecord(dirname(paths.journalFile)).catch(() => undefined);
  const agent = await agentStatus(paths.agentSocket);
  const containerd =
    mode === 'hook'
      ? undefined
      : await containerdFacts(request, { config, record, processes: await listProcesses() });
  const isKnown = config.keyServerAddress !== 'none:1';
  return {
    findings: diagnose({
      mode,
      containerd,
      hook: mode === 'hook' ? await hookFacts(config) : undefined,
      machine: await machineFacts(config, {
        rootKey: request.rootKey,
        effective:
          typeof containerd === 'object' && 'dump' in containerd.effective ? containerd.effective.dump : {},
      }),
      agent: {
        agent,
        agentSocket: paths.agentSocket,
        hasSnapshotterSocket: await isThere(paths.snapshotterSocket),
        snapshotterSocket: paths.snapshotterSocket,
        needsContainerd: mode !== 'hook',
        store: servesSnapshots(mode) ? await storeFacts(config.store, process.env['PATH'] ?? '') : undefined,
        commandVersion: VERSION,
        nowMs: Date.now(),
        keyServerReachable:
          isKnown && agent?.keyServerConnected !== true ? await canReach(config.keyServerAddress) : undefined,
      },
    }),
  };
}

/** Without a configuration of the agent its default directories count. */
async function loadConfig(path: string): Promise<AgentConfig> {
  const text = await readIfThere(path);
  if (text === undefined && path !== DEFAULT_CONFIG_PATH)
    throw new LatchkeyError('CONFIG_INVALID', `the agent's configuration ${path} cannot be read`, {
      hint: "write it with 'latchkey node install'",
    });
  return parseAgentConfig(text ?? DEFAULT_SETTINGS, path);
}

async function hookFacts({ paths }: AgentConfig): Promise<HookFacts> {
  const path = hookFilePath(HOOKS_DIRECTORY);
  return { path, text: await readIfThere(path), program: paths.hookProgram };
}

async function agentStatus(socket: string) {
  const connection = new AgentConnection(socket);
  try {
    return await connection.status().catch(() => undefined);
  } finally {
    connection.close();
  }
}

function canReach(address: string): Promise<boolean> {
  const [, host = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(port), timeout: REACH_TIMEOUT_MS });
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => {
      end(true);
    });
    for (const event of ['error', 'timeout'] as const)
      socket.once(event, () => {
        end(false);
      });
  });
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

/** What both gatherers of facts have to know. */
export interface Circumstances {
  readonly config: AgentConfig;
  readonly record: InstallationRecord | undefined;
}
