/** Takes an installation back: every file as it was before, byte by byte, and no plaintext left. */
import { readFile, readdir, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { LatchkeyError } from '#src/base/errors.ts';
import { type AgentConfig, DEFAULT_CONFIG_PATH, parseAgentConfig } from '../agent/agent-config.ts';
import { removePlaintextStore } from '../snapshotter/store-choice.ts';
import { DEFAULT_SETTINGS, agentAnswers } from './agent-presence.ts';
import { type RecordedFile, readRecord, recordPath, sha256Of } from './installation-record.ts';
import type { Machine, UninstallRequest } from './machine.ts';
import { runCommands } from './next-steps.ts';
import { type FileChange, readIfThere, replaceFile } from './planned-file.ts';
import { standingContainers } from './running-gated.ts';
import { NODE_SERVICE } from './systemd-units.ts';
import { withoutChanges } from './toml-text.ts';
import { unifiedDiff } from './unified-diff.ts';
import { refuseUnmarkedRest } from './unmarked-rest.ts';

/** Names of containers in one message. */
const SHOWN_CONTAINERS = 5;

export interface UninstallResult {
  readonly files: readonly (Omit<FileChange, 'change'> & { readonly change: FileOutcome })[];
  readonly notes: readonly string[];
  readonly next: readonly string[];
  /** What of `next` `--restart` does; empty without systemd. */
  readonly restart: readonly (readonly string[])[];
}

/** `kept`: the operator has changed it since, and it is his. */
type FileOutcome = 'restored' | 'removed' | 'ours-removed' | 'kept' | 'unchanged';

interface Removal {
  readonly file: RecordedFile;
  readonly outcome: FileOutcome;
  readonly before: string | undefined;
  /** Undefined: the file goes. */
  readonly after: string | undefined;
}

export interface UninstallParts {
  readonly machine: Machine;
  readonly run: (program: string, args: readonly string[]) => Promise<unknown>;
  /** Text of /proc/self/mounts. */
  readonly mounts: string;
}

/**
 * @throws LatchkeyError STATE_PRECONDITION while gated containers or the agent run; STATE_CONFLICT when somebody has changed
 *   a file since, unless forced; STATE_NOT_FOUND when nothing was installed
 */
export async function uninstall(request: UninstallRequest, parts: UninstallParts): Promise<UninstallResult> {
  const agent = await agentOf(request.config);
  const stateDirectory = dirname(agent.paths.journalFile);
  const record = await readRecord(stateDirectory);
  if (record === undefined) {
    throw new LatchkeyError(
      'CONFIG_INVALID',
      `nothing is installed here: there is no ${recordPath(stateDirectory)}`,
      {
        hint: 'name the agent’s configuration with --config if it is not the default one',
      },
    );
  }
  const notes = refuseRunning(agent, request, parts.mounts);
  const removals = await Promise.all(record.files.map((file) => planRemoval(file, request)));
  refuseForeign(removals, request);
  for (const { file, outcome, after } of removals)
    if (outcome !== 'restored' && file.kind === 'edited' && after !== undefined)
      refuseUnmarkedRest(after, file, agent.paths);
  const { hasSystemd } = parts.machine;
  if (!request.dryRun) {
    await stopAgent(agent, parts);
    // The settings say where everything else is: one that was interrupted is finished by another.
    const isSettings = ({ file }: Removal) => file.kind === 'settings';
    for (const removal of removals) if (!isSettings(removal)) await carryOut(removal);
    await removePlaintextStore(agent.store);
    await removeLeftovers(agent, request.purge);
    for (const removal of removals) if (isSettings(removal)) await carryOut(removal);
    await rm(recordPath(stateDirectory), { force: true });
    await removeEmpty([agent.paths.runtimeDirectory, stateDirectory, ...record.directories.toReversed()]);
  }
  const service = record.containerd?.service ?? undefined;
  const restart = hasSystemd
    ? [['systemctl', 'daemon-reload'], ...(service === undefined ? [] : [['systemctl', 'restart', service]])]
    : [];
  const byHand = record.containerd === null ? [] : ['# restart containerd, by the means of this system'];
  if (!request.purge)
    notes.push(`identity and snapshots are kept in ${stateDirectory}; --purge removes them`);
  notes.push('ask the vendor to retire this node, so that its seat of the license is free');
  return {
    files: removals.map(({ file, outcome, before, after }) => ({
      path: file.path,
      change: outcome,
      diff: outcome === 'kept' ? '' : removalDiff(file.path, before, after),
    })),
    notes,
    next: hasSystemd ? restart.map((command) => command.join(' ')) : byHand,
    restart,
  };
}

/** Without a configuration of the agent its default directories count. */
async function agentOf(config: string): Promise<AgentConfig> {
  const text = await readIfThere(config);
  if (text === undefined && config !== DEFAULT_CONFIG_PATH)
    throw new LatchkeyError('CONFIG_INVALID', `the agent's configuration ${config} cannot be read`, {
      hint: 'name the one that was installed with --config; where it is lost, see docs/operations.md',
    });
  return parseAgentConfig(text ?? DEFAULT_SETTINGS, config);
}

function refuseRunning({ paths }: AgentConfig, request: UninstallRequest, mounts: string): string[] {
  const standing = standingContainers(mounts, { memory: paths.memoryDirectory, disk: paths.diskDirectory });
  const gated = standing.filter(({ isGated }) => isGated);
  const plain = standing.filter(({ isGated }) => !isGated);
  if (gated.length > 0 && !request.force) {
    throw new LatchkeyError(
      'STATE_PRECONDITION',
      `${gated.length} containers of encrypted images run: ${namesOf(gated)}`,
      {
        hint: 'drain the node or stop them, then try again; --force removes their files under them',
      },
    );
  }
  if (plain.length > 0 && request.purge && !request.force) {
    throw new LatchkeyError(
      'STATE_PRECONDITION',
      `${plain.length} containers stand on files that --purge removes: ${namesOf(plain)}`,
      {
        hint: 'drain the node or stop them first, or leave --purge out',
      },
    );
  }
  return plain.length === 0
    ? []
    : [
        `${plain.length} plain containers still stand on the latchkey snapshotter (${namesOf(plain)}): start them anew after containerd`,
      ];
}

function namesOf(containers: readonly { readonly namespace: string; readonly id: string }[]): string {
  const shown = containers.slice(0, SHOWN_CONTAINERS).map(({ namespace, id }) => `${namespace}/${id}`);
  return [...shown, ...(containers.length > shown.length ? ['...'] : [])].join(', ');
}

async function planRemoval(file: RecordedFile, request: UninstallRequest): Promise<Removal> {
  const before = await readIfThere(file.path);
  if (before === undefined || sha256Of(before) === file.beforeSha256)
    return { file, outcome: 'unchanged', before, after: before };
  const isAsWritten = sha256Of(before) === file.afterSha256;
  if (file.kind === 'settings' && !isAsWritten && !request.purge)
    return { file, outcome: 'kept', before, after: before };
  if (file.beforeSha256 === null && (isAsWritten || file.kind !== 'edited'))
    return { file, outcome: 'removed', before, after: undefined };
  const original = await originalOf(file, before);
  if (original !== undefined) return { file, outcome: 'restored', before, after: original };
  return {
    file,
    outcome: 'ours-removed',
    before,
    after: file.kind === 'edited' ? withoutChanges(before) : before,
  };
}

/** The text that was there before the installation: the backup, or the file without our lines. */
async function originalOf(file: RecordedFile, current: string): Promise<string | undefined> {
  if (sha256Of(current) !== file.afterSha256 && file.kind === 'edited') return undefined;
  const backup = file.backup === null ? undefined : await readIfThere(file.backup);
  return [backup, withoutChanges(current)].find(
    (text) => text !== undefined && sha256Of(text) === file.beforeSha256,
  );
}

function refuseForeign(removals: readonly Removal[], { force }: UninstallRequest): void {
  const foreign = removals.filter(
    ({ file, before, outcome }) =>
      outcome !== 'unchanged' &&
      outcome !== 'kept' &&
      before !== undefined &&
      file.kind !== 'settings' &&
      sha256Of(before) !== file.afterSha256,
  );
  if (foreign.length === 0 || force) return;
  throw new LatchkeyError(
    'STATE_CONFLICT',
    `changed by somebody else since the installation: ${foreign.map(({ file }) => file.path).join(', ')}`,
    {
      hint: "look with --dry-run --force; with --force only Latchkey's own lines are taken out, and its own files removed",
    },
  );
}

async function stopAgent(agent: AgentConfig, { machine, run }: UninstallParts): Promise<void> {
  // systemctl fails for a service that it does not have, as after an installation that was interrupted.
  if (machine.hasSystemd && (await hasService(machine)))
    await runCommands([['systemctl', 'disable', '--now', NODE_SERVICE]], run);
  if (await agentAnswers(agent.paths.agentSocket)) {
    throw new LatchkeyError('STATE_PRECONDITION', `the agent still runs on ${agent.paths.agentSocket}`, {
      hint: 'stop it by the means that started it, then try again; nothing was changed',
    });
  }
}

async function hasService({ units, packagedUnits }: Machine): Promise<boolean> {
  const files = [units, packagedUnits].map((directory) => stat(join(directory, NODE_SERVICE)));
  return (await Promise.allSettled(files)).some(({ status }) => status === 'fulfilled');
}

async function carryOut({ file, outcome, before, after }: Removal): Promise<void> {
  if (outcome === 'kept') return;
  if (after === undefined) await rm(file.path, { force: true });
  else if (after !== before) await replaceFile(file.path, after);
  // Where only our lines went, the copy is the only one of what was there.
  if (file.backup === null || outcome === 'ours-removed') return;
  const backup = await readFile(file.backup, 'utf8').catch(() => undefined);
  if (backup !== undefined && backup === after) await rm(file.backup);
}

/** Only what the agent itself makes: the directories may be somebody else's as well. */
async function removeLeftovers({ paths }: AgentConfig, purge: boolean): Promise<void> {
  const kept = purge
    ? []
    : [paths.identityDirectory, paths.diskDirectory, paths.journalFile, paths.licensedImagesFile];
  const made = [
    ...[paths.processorProgram, paths.agentSocket, paths.snapshotterSocket, paths.processorSocket],
    ...[paths.hookProgram, paths.hookSocket, paths.metricsSocket],
    ...[paths.identityDirectory, paths.diskDirectory, paths.memoryDirectory, paths.journalFile],
    ...[paths.licensedImagesFile, paths.lockFile],
    ...['-wal', '-shm'].map((suffix) => `${paths.journalFile}${suffix}`),
  ];
  for (const path of made)
    if (!kept.some((prefix) => path.startsWith(prefix))) await rm(path, { recursive: true, force: true });
}

async function removeEmpty(directories: readonly string[]): Promise<void> {
  for (const directory of directories) {
    const entries = await readdir(directory).catch(() => ['not there']);
    if (entries.length === 0) await rmdir(directory);
  }
}

function removalDiff(path: string, before: string | undefined, after: string | undefined): string {
  return unifiedDiff(path, before, after ?? '');
}
