/** The facts of containerd for the doctor. */
import { readFile, stat } from 'node:fs/promises';
import { toLatchkeyError } from '#src/base/errors.ts';
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';
import { statisticsDirectory } from './containerd-plan.ts';
import { containerdVersion, effectiveConfiguration } from './containerd-program.ts';
import {
  DEFAULT_CONTAINERD_CONFIG,
  type FoundContainerd,
  type ProcessFacts,
  runningContainerds,
} from './containerd-search.ts';
import type { ContainerdFacts } from './doctor-containerd.ts';
import { mountPoints } from './mounts.ts';
import type { Circumstances, DoctorRequest } from './node-facts.ts';
import { readIfThere } from './planned-file.ts';
import type { TomlTable } from './toml-change.ts';

/** The kernel's unit of process times on every architecture that Linux has today (sysconf(_SC_CLK_TCK)). */
const TICKS_PER_SECOND = 100;
/** The time of the start is known to a tick, that of the boot to a second. */
const START_TOLERANCE_MS = 1500;

/** @returns words when there is no containerd that could be examined */
export async function containerdFacts(
  request: DoctorRequest,
  { config, record, processes }: Circumstances & { readonly processes: readonly ProcessFacts[] },
): Promise<ContainerdFacts | string> {
  const running = runningContainerds(processes);
  const recorded = record?.containerd ?? undefined;
  const chosen = request.containerdConfig ?? recorded?.configPath;
  const process = chosen === undefined ? running[0] : running.find(({ configPath }) => configPath === chosen);
  const program = request.containerd ?? process?.program ?? recorded?.program ?? 'containerd';
  const configPath = chosen ?? process?.configPath ?? DEFAULT_CONTAINERD_CONFIG;
  let version: string;
  try {
    version = await containerdVersion(program);
  } catch (error) {
    return toLatchkeyError(error).message;
  }
  const { paths, mode } = config;
  const effective = await effectiveConfiguration(program, configPath).then(
    (dump) => ({ dump }),
    (error: unknown) => ({ refusal: toLatchkeyError(error).message }),
  );
  return {
    program,
    configPath,
    version,
    effective,
    gate: {
      containerdVersion: version,
      mode,
      snapshotterSocket: paths.snapshotterSocket,
      processor: { path: paths.processorProgram, args: [] },
      snapshotterRoot: paths.diskDirectory,
      platform: '',
      ...(record?.runtimeClass == null
        ? {}
        : { runtimeClass: { name: record.runtimeClass, like: { name: 'runc', table: {} } } }),
    },
    configChangedMs: 'dump' in effective ? await youngest(configPath, effective.dump) : undefined,
    process:
      process === undefined
        ? undefined
        : await processFacts(process, paths.memoryDirectory, mode !== 'sweep'),
    runningConfigs: [...new Set(running.map((found) => found.configPath))],
    hasStatisticsDirectory:
      !/^v?1\.6\b/.test(version) ||
      mode !== 'snapshotter' ||
      !('dump' in effective) ||
      (await stat(statisticsDirectory(effective.dump, SNAPSHOTTER_NAME)).catch(() => undefined)) !==
        undefined,
  };
}

/** Of the file and what it imports, as far as the imports are named without wildcards. */
async function youngest(configPath: string, { imports }: TomlTable): Promise<number | undefined> {
  const named: unknown[] = Array.isArray(imports) ? imports : [];
  const paths = [configPath, ...named.filter((path) => typeof path === 'string' && path.startsWith('/'))];
  const times = await Promise.all(
    paths.map((path) =>
      stat(String(path)).then(
        ({ mtimeMs }) => [mtimeMs],
        () => [],
      ),
    ),
  );
  return times.flat().reduce<number | undefined>((most, time) => Math.max(most ?? 0, time), undefined);
}

async function processFacts(
  { pid }: FoundContainerd,
  store: string,
  needsStore: boolean,
): Promise<ContainerdFacts['process']> {
  const own = mountPoints((await readIfThere('/proc/self/mounts')) ?? '');
  const its = await readFile(`/proc/${pid}/mounts`, 'utf8').then(mountPoints, () => undefined);
  // A store that is mounted nowhere is another finding.
  const seesStore = !needsStore || its === undefined || !own.has(store) || its.has(store);
  return { startedMs: (await startTimeMs(pid)) + START_TOLERANCE_MS, seesStore };
}

/** When a process was started (proc_pid_stat(5), field 22, counted from the boot). */
async function startTimeMs(pid: number): Promise<number> {
  const [line, machine] = await Promise.all([
    readFile(`/proc/${pid}/stat`, 'utf8'),
    readFile('/proc/stat', 'utf8'),
  ]);
  const afterName = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(afterName[19]);
  const bootSeconds = Number(/^btime (\d+)$/m.exec(machine)?.[1]);
  return (bootSeconds + ticks / TICKS_PER_SECOND) * 1000;
}
