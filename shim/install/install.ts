/** Sets a machine up: the agent's settings, containerd's configuration, services. Running it again changes nothing. */
import { X509Certificate } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LatchkeyError } from '#src/base/errors.ts';
import { type AgentConfig, parseAgentConfig } from '../agent/agent-config.ts';
import { DEFAULT_NODE_MODE, type NodeMode } from '../agent/node-mode.ts';
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';
import { DEFAULT_RUNTIME_CLASS } from './containerd-config.ts';
import {
  type ContainerdPlan,
  besides,
  grpcAddress,
  planContainerd,
  statisticsDirectory,
} from './containerd-plan.ts';
import { containerdVersion, effectiveConfiguration } from './containerd-program.ts';
import {
  DEFAULT_CONTAINERD_CONFIG,
  type FoundContainerd,
  chooseContainerd,
  otherRuntimes,
  runningContainerds,
} from './containerd-search.ts';
import { applyPlan } from './apply-plan.ts';
import { type InstallationRecord, readRecord } from './installation-record.ts';
import { nextSteps } from './next-steps.ts';
import { hookFilePath, ociHookFile } from './oci-hook.ts';
import type { InstallRequest, Machine } from './machine.ts';
import { nodeConfiguration } from './node-settings.ts';
import {
  type FileChange,
  type PlannedFile,
  describeChange,
  readForChange,
  readIfThere,
} from './planned-file.ts';
import { checkRuntimeClass, runtimeClassManifest } from './runtime-class.ts';
import { NODE_SERVICE, containerdDropIn, nodeServiceUnit, DROP_IN_NAME } from './systemd-units.ts';

export interface InstallPlan {
  readonly agent: AgentConfig;
  readonly mode: NodeMode;
  readonly runtimeClass: string | undefined;
  /** Undefined in the mode `hook`, which needs none. */
  readonly containerd: (FoundContainerdWithVersion & { readonly plan: ContainerdPlan }) | undefined;
  readonly files: readonly PlannedFile[];
  /** Made beside the files. */
  readonly directories: readonly string[];
}

export interface FoundContainerdWithVersion {
  readonly program: string;
  readonly configPath: string;
  readonly version: string;
  /** The systemd service that it runs in; undefined without systemd. */
  readonly service: string | undefined;
  readonly isRunning: boolean;
}

export interface InstallResult {
  readonly mode: NodeMode;
  readonly containerd: {
    readonly version: string;
    readonly program: string;
    readonly configPath: string;
  } | null;
  /** False when everything was as it should be already. */
  readonly changed: boolean;
  readonly files: readonly FileChange[];
  /** What is worth knowing. */
  readonly notes: readonly string[];
  /** Commands that remain to be run, in order. */
  readonly next: readonly string[];
  /** The part of them that `--restart` does; empty without systemd. */
  readonly restart: readonly (readonly string[])[];
  /** Where the agent answers once it runs. */
  readonly agentSocket: string;
}

/**
 * @throws LatchkeyError USAGE_INVALID or CONFIG_INVALID when this machine cannot be set up so; then nothing was changed
 */
export async function install(request: InstallRequest, machine: Machine): Promise<InstallResult> {
  const plan = await planInstallation(request, machine);
  const files = plan.files.map(describeChange);
  const changed = files.some(({ change }) => change !== 'unchanged');
  if (!request.dryRun) await applyPlan(plan, await readRecord(stateDirectoryOf(plan.agent)));
  return {
    mode: plan.mode,
    containerd: plan.containerd === undefined ? null : pick(plan.containerd),
    changed,
    files,
    ...(await nextSteps(plan, { request, machine, changed })),
    agentSocket: plan.agent.paths.agentSocket,
  };
}

function pick({ version, program, configPath }: FoundContainerdWithVersion) {
  return { version, program, configPath };
}

async function planInstallation(request: InstallRequest, machine: Machine): Promise<InstallPlan> {
  const existing = await readIfThere(request.config);
  const present = existing === undefined ? undefined : parseAgentConfig(existing, request.config);
  const earlier = present === undefined ? undefined : await readRecord(stateDirectoryOf(present));
  const mode = present?.mode ?? request.mode ?? DEFAULT_NODE_MODE;
  refuseOtherHold(mode, earlier, request.config);
  const containerd = mode === 'hook' ? undefined : await findContainerd(request, machine, earlier);
  const effective =
    containerd === undefined
      ? {}
      : await effectiveConfiguration(containerd.program, containerd.configPath).catch(() => ({}));
  const address = request.containerdAddress ?? containerd?.address ?? grpcAddress(effective);
  const settings = nodeConfiguration(
    existing,
    {
      key_server: request.keyServer,
      enrollment: request.enrollment,
      authority_file: request.authority === undefined ? undefined : besides(request.config, 'authority.pem'),
      mode: request.mode,
      containerd_address: existing === undefined ? address : request.containerdAddress,
      state_directory: request.stateDirectory,
      runtime_directory: request.runtimeDirectory,
      node_name: request.nodeName,
    },
    request.config,
  );
  const agent = parseAgentConfig(settings, request.config);
  const runtimeClass =
    mode === 'runtime-class'
      ? checkRuntimeClass(request.runtimeClass ?? earlier?.runtimeClass ?? DEFAULT_RUNTIME_CLASS)
      : undefined;
  if (request.runtimeClass !== undefined && runtimeClass === undefined) {
    throw new LatchkeyError('USAGE_INVALID', `a runtime class is for --mode runtime-class, not for ${mode}`, {
      hint: 'give both options, or neither',
    });
  }
  const files: PlannedFile[] = [
    { path: request.config, kind: 'settings', before: existing, after: settings },
  ];
  files.push(...(await authorityFiles(request, agent)));
  const plan =
    containerd === undefined
      ? undefined
      : await planContainerd(containerd.program, containerd.configPath, {
          containerdVersion: containerd.version,
          mode,
          snapshotterSocket: agent.paths.snapshotterSocket,
          processor: { path: agent.paths.processorProgram, args: [] },
          snapshotterRoot: agent.paths.diskDirectory,
          platform: machine.platform,
          runtimeClassName: runtimeClass,
        });
  if (plan !== undefined) files.push(plan.file);
  if (runtimeClass !== undefined) {
    const path = besides(request.config, 'runtime-class.yaml');
    files.push(await ownFile(path, runtimeClassManifest(runtimeClass)));
  }
  if (mode === 'hook')
    files.push(await ownFile(hookFilePath(machine.hooks), ociHookFile(agent.paths.hookProgram)));
  files.push(...(await unitFiles(request, machine, agent, containerd?.service)));
  const isOld = containerd !== undefined && /^v?1\.6\b/.test(containerd.version);
  return {
    agent,
    mode,
    runtimeClass,
    containerd: containerd === undefined || plan === undefined ? undefined : { ...containerd, plan },
    files,
    directories:
      isOld && plan !== undefined && mode === 'snapshotter'
        ? [statisticsDirectory(plan.effective, SNAPSHOTTER_NAME)]
        : [],
  };
}

/** containerd's files are of no use to the mode `hook`, nor its file to the others, and either would refuse all starts. */
function refuseOtherHold(mode: NodeMode, earlier: InstallationRecord | undefined, config: string): void {
  if (earlier === undefined || (earlier.mode === 'hook') === (mode === 'hook')) return;
  throw new LatchkeyError(
    'CONFIG_INVALID',
    `this machine is set up for the mode ${earlier.mode}, and ${config} now says ${mode}`,
    {
      hint: "run 'latchkey node uninstall' first, which keeps that file, then this again; nothing was changed",
    },
  );
}

async function ownFile(path: string, after: string): Promise<PlannedFile> {
  return { path, kind: 'own', before: await readForChange(path), after };
}

/** The containerd that is meant: the chosen one, the only one that runs, or the one that is installed. */
async function findContainerd(
  request: InstallRequest,
  machine: Machine,
  earlier: InstallationRecord | undefined,
): Promise<FoundContainerdWithVersion & Pick<FoundContainerd, 'address'>> {
  const chosen = request.containerdConfig ?? earlier?.containerd?.configPath;
  const running = chooseContainerd(runningContainerds(machine.processes), chosen);
  if (running?.distribution !== undefined) {
    throw new LatchkeyError(
      'CONFIG_INVALID',
      `${running.distribution} writes ${running.configPath} anew at each start, and Latchkey does not edit its template yet`,
      { hint: 'use a containerd of its own, or see the operator guide for the template by hand' },
    );
  }
  const program = request.containerd ?? running?.program ?? earlier?.containerd?.program ?? 'containerd';
  const others = otherRuntimes(machine.processes, machine.programs);
  const version = await containerdVersion(program).catch((error: unknown) => {
    if (request.containerd !== undefined || others.length === 0) throw error;
    throw new LatchkeyError('CONFIG_INVALID', `there is no containerd here, but ${others.join(' and ')}`, {
      hint: 'use --mode hook, and read in the operator guide what it does not protect against',
    });
  });
  const service = machine.hasSystemd ? (running?.service ?? 'containerd.service') : undefined;
  return {
    program,
    version,
    configPath: running?.configPath ?? chosen ?? DEFAULT_CONTAINERD_CONFIG,
    address: running?.address,
    service,
    isRunning: running !== undefined,
  };
}

async function authorityFiles(request: InstallRequest, agent: AgentConfig): Promise<PlannedFile[]> {
  const before = await readIfThere(agent.authorityFile);
  if (request.authority === undefined) {
    if (before !== undefined) return [];
    throw new LatchkeyError('USAGE_INVALID', `there is no ${agent.authorityFile} yet`, {
      hint: "give --authority FILE: the authority.pem of the software's vendor",
    });
  }
  const after = await readIfThere(request.authority);
  if (after === undefined) {
    throw new LatchkeyError('USAGE_INVALID', `${request.authority} is not there`, {
      hint: "give the authority.pem of the software's vendor",
    });
  }
  checkAuthority(after, request.authority);
  if (before !== undefined && before.trim() !== after.trim()) {
    throw new LatchkeyError(
      'CONFIG_INVALID',
      `${agent.authorityFile} is another authority than ${request.authority}`,
      {
        hint: 'a node trusts one; move the old file away first if the vendor has changed it; nothing was changed',
      },
    );
  }
  return [{ path: agent.authorityFile, kind: 'own', before, after: before ?? after }];
}

function checkAuthority(pem: string, path: string): void {
  try {
    new X509Certificate(pem);
  } catch (error) {
    throw new LatchkeyError('INPUT_MALFORMED', `${path} is not a certificate in PEM form`, {
      hint: "give the authority.pem of the software's vendor",
      cause: error,
    });
  }
}

async function unitFiles(
  request: InstallRequest,
  machine: Machine,
  agent: AgentConfig,
  service: string | undefined,
): Promise<PlannedFile[]> {
  if (!machine.hasSystemd) return [];
  const services = service === undefined ? [] : [service];
  const files: PlannedFile[] = [];
  const packaged = await stat(join(machine.packagedUnits, NODE_SERVICE)).catch(() => undefined);
  if (packaged === undefined) {
    const command = [...machine.agentCommand, '--config', request.config];
    const unit = nodeServiceUnit(command, agent.paths, services);
    files.push(await ownFile(join(machine.units, NODE_SERVICE), unit));
  }
  for (const name of services)
    files.push(await ownFile(join(machine.units, `${name}.d`, DROP_IN_NAME), containerdDropIn()));
  return files;
}

export function stateDirectoryOf({ paths }: AgentConfig): string {
  return join(paths.journalFile, '..');
}
