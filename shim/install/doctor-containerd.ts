/** What can be wrong with a containerd: judged by what it makes of its files, and by the process that runs. */
import type { NodeMode } from '../agent/node-mode.ts';
import { type GateConfiguration, processorIds } from './containerd-config.ts';
import { type EffectiveFaultId, effectiveFaults } from './containerd-effective.ts';
import { payloadFindings } from './doctor-payload.ts';
import { type Finding, fault, ok } from './finding.ts';
import { type TomlTable, isTable, tableAt, valueAt } from './toml-change.ts';

export interface ContainerdFacts {
  readonly program: string;
  readonly configPath: string;
  readonly version: string;
  /** What it makes of its files; its own words when it does not take them. */
  readonly effective: { readonly dump: TomlTable } | { readonly refusal: string };
  readonly gate: GateConfiguration;
  /** Of the youngest of its files; undefined when there is none. */
  readonly configChangedMs: number | undefined;
  readonly process: { readonly startedMs: number; readonly seesStore: boolean } | undefined;
  /** Configurations of all that run. */
  readonly runningConfigs: readonly string[];
  /** True unless the directory is missing in which a kubelet looks for disk statistics on 1.6. */
  readonly hasStatisticsDirectory: boolean;
}

const REINSTALL = "run 'latchkey node install', then restart containerd";

const MENDS: Readonly<Record<EffectiveFaultId, { severity: 'bad' | 'warning'; mend: string }>> = {
  'processor-not-called': { severity: 'bad', mend: REINSTALL },
  'proxy-plugin-wrong': { severity: 'bad', mend: REINSTALL },
  'exports-root-missing': { severity: 'warning', mend: REINSTALL },
  'snapshotter-lost': {
    severity: 'bad',
    mend: `${REINSTALL}; 2.x loses the setting of some files of version 2 when it migrates them, and on 1.x an imported file replaces the table`,
  },
  'runtime-class-missing': { severity: 'bad', mend: REINSTALL },
  'unpack-config-missing': { severity: 'bad', mend: REINSTALL },
  'discard-unpacked-layers': {
    severity: 'bad',
    mend: 'set discard_unpacked_layers to false and pull the images again: Latchkey decrypts from the kept layers at each start',
  },
};

/** The findings, in the order in which they should be mended. */
export function containerdFindings(containerd: ContainerdFacts, mode: NodeMode): Finding[] {
  const { configPath, effective, gate, version, process: running } = containerd;
  if ('refusal' in effective)
    return [
      fault(
        'containerd-config-refused',
        'bad',
        effective.refusal,
        `mend ${configPath}: containerd does not start with it`,
      ),
    ];
  const faults = effectiveFaults(effective.dump, gate);
  const findings = faults.map(({ id, detail }) => fault(id, MENDS[id].severity, detail, MENDS[id].mend));
  if (findings.length === 0)
    findings.push(
      ok('containerd-config', `containerd ${version} with ${configPath} is set up for mode ${mode}`),
    );
  findings.push(...foreignProcessors(effective.dump, gate), ...payloadFindings(version, effective.dump));
  if (!containerd.hasStatisticsDirectory)
    findings.push(
      fault(
        'disk-statistics-missing',
        'warning',
        'a kubelet on containerd 1.6 cannot find the disk use of the snapshotter',
        "run 'latchkey node install'",
      ),
    );
  if (running === undefined)
    findings.push(
      fault('containerd-not-running', 'bad', `no containerd runs with ${configPath}`, 'start it'),
    );
  else {
    if (containerd.configChangedMs !== undefined && containerd.configChangedMs > running.startedMs)
      findings.push(
        fault(
          'containerd-restart-needed',
          'bad',
          `${configPath} is younger than the containerd that runs`,
          'restart containerd',
        ),
      );
    if (!running.seesStore)
      findings.push(
        fault(
          'mounts-private',
          'bad',
          'containerd does not see the plaintext store: the two run in different mount namespaces',
          'take PrivateTmp=, PrivateMounts=, ProtectSystem= and the like out of both services, then restart the agent and containerd',
        ),
      );
  }
  const others = containerd.runningConfigs.filter((path) => path !== configPath);
  if (others.length > 0)
    findings.push(
      fault(
        'several-containerds',
        'warning',
        `other containerds run, which are not gated: ${others.join(', ')}`,
        "examine each: 'latchkey node doctor --containerd-config FILE'",
      ),
    );
  return findings;
}

/** containerd takes whichever processor it meets first for a type. */
function foreignProcessors(dump: TomlTable, { processor }: GateConfiguration): Finding[] {
  const ours = processorIds().flatMap((id) => strings(valueAt(dump, ['stream_processors', id, 'accepts'])));
  return Object.entries(tableAt(dump, ['stream_processors']))
    .filter(
      ([id, entry]) =>
        !processorIds().includes(id) &&
        isTable(entry) &&
        strings(entry['accepts']).some((type) => ours.includes(type)),
    )
    .map(([id, entry]) => {
      const path = isTable(entry) && typeof entry['path'] === 'string' ? entry['path'] : 'another program';
      return fault(
        'processor-foreign',
        'bad',
        `the stream processor ${id} (${path}) takes encrypted layers as well, so that ${processor.path} may not be called`,
        `take [stream_processors."${id}"] out of containerd's configuration and restart it`,
      );
    });
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((entry) => typeof entry === 'string') : [];
}
