/**
 * What containerd really makes of its files, as `containerd config dump` shows it: after imports, which on 1.x replace
 * whole plugin tables, and after migration, which on 2.x loses settings of older files.
 */
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';
import {
  CRI_IMAGES_V3,
  CRI_RUNTIME_V3,
  CRI_V1,
  CRI_V2,
  DEFAULT_RUNTIME_CLASS,
  type GateConfiguration,
  TRANSFER_V3,
  parseContainerdVersion,
  processorIds,
} from './containerd-config.ts';
import { type TomlPath, type TomlTable, isTable, tableAt, valueAt } from './toml-change.ts';

export type EffectiveFaultId =
  | 'processor-not-called'
  | 'proxy-plugin-wrong'
  | 'exports-root-missing'
  | 'snapshotter-lost'
  | 'runtime-class-missing'
  | 'unpack-config-missing'
  | 'discard-unpacked-layers';

export interface EffectiveFault {
  readonly id: EffectiveFaultId;
  /** What is so, in words. */
  readonly detail: string;
}

/** Everything in which a dump is not as the gate needs it; nothing when it is. */
export function effectiveFaults(dump: TomlTable, gate: GateConfiguration): EffectiveFault[] {
  const { mode = 'snapshotter' } = gate;
  if (mode === 'hook') return [];
  const version = parseContainerdVersion(gate.containerdVersion);
  const faults: EffectiveFault[] = [];
  const fault = (id: EffectiveFaultId, detail: string) => faults.push({ id, detail });
  for (const id of processorIds()) {
    const path = valueAt(dump, ['stream_processors', id, 'path']);
    if (path === gate.processor.path) continue;
    const instead = typeof path === 'string' ? `runs ${path}` : 'is not there';
    fault('processor-not-called', `the stream processor ${id} ${instead}, not ${gate.processor.path}`);
  }
  if (discards(dump)) fault('discard-unpacked-layers', 'containerd deletes layers once it has unpacked them');
  if (mode === 'sweep') return faults;

  const proxy = tableAt(dump, ['proxy_plugins', SNAPSHOTTER_NAME]);
  if (proxy['type'] !== 'snapshot' || proxy['address'] !== gate.snapshotterSocket) {
    const at = typeof proxy['address'] === 'string' ? `is at ${proxy['address']}` : 'is not registered';
    fault(
      'proxy-plugin-wrong',
      `the snapshotter ${SNAPSHOTTER_NAME} ${at}, not at ${gate.snapshotterSocket}`,
    );
  } else if (
    (version.major >= 2 || version.minor >= 7) &&
    valueAt(proxy, ['exports', 'root']) !== gate.snapshotterRoot
  ) {
    fault('exports-root-missing', 'a kubelet cannot find the disk statistics of the snapshotter');
  }
  if (version.major >= 2 && !unpacks(dump))
    fault('unpack-config-missing', `the transfer service does not unpack for ${SNAPSHOTTER_NAME}`);
  if (hasCri(dump) && mode === 'snapshotter') {
    const snapshotter = criSnapshotter(dump);
    if (snapshotter !== SNAPSHOTTER_NAME)
      fault('snapshotter-lost', `Kubernetes uses the snapshotter ${snapshotter ?? 'of the default'}`);
  }
  if (hasCri(dump) && mode === 'runtime-class') {
    const { name = DEFAULT_RUNTIME_CLASS } = gate.runtimeClass ?? {};
    if (tableAt(runtimes(dump), [name])['snapshotter'] !== SNAPSHOTTER_NAME)
      fault('runtime-class-missing', `no runtime ${name} uses the snapshotter ${SNAPSHOTTER_NAME}`);
    else if (version.major >= 2 && pullsInto(dump, name) !== SNAPSHOTTER_NAME)
      fault('runtime-class-missing', `images of the runtime ${name} are unpacked into another snapshotter`);
  }
  return faults;
}

/** True when CRI, which Kubernetes needs, is on; 1.x leaves a plugin that is off out of the dump. */
export function hasCri(dump: TomlTable): boolean {
  const { disabled_plugins: disabled } = dump;
  const isOff =
    Array.isArray(disabled) && [CRI_V1, CRI_V2, CRI_IMAGES_V3].some((id) => disabled.includes(id));
  return !isOff && [CRI_V2, CRI_IMAGES_V3].some((id) => isTable(valueAt(dump, ['plugins', id])));
}

/** The runtime that pods get without a class. */
export function defaultRuntime(dump: TomlTable): { readonly name: string; readonly table: TomlTable } {
  const set = criContainerd(dump)['default_runtime_name'];
  const name = typeof set === 'string' && set !== '' ? set : 'runc';
  return { name, table: tableAt(runtimes(dump), [name]) };
}

/** CRI's snapshotter for pods without a class. */
export function criSnapshotter(dump: TomlTable): string | undefined {
  const value =
    valueAt(dump, ['plugins', CRI_IMAGES_V3, 'snapshotter']) ??
    valueAt(dump, ['plugins', CRI_V2, 'containerd', 'snapshotter']);
  return typeof value === 'string' ? value : undefined;
}

/**
 * Settings that differ although they are none of ours, as dotted paths: an edit that does that is not made.
 * @param runtimeName the runtime that is ours, for the mode `runtime-class`
 */
export function foreignChanges(before: TomlTable, after: TomlTable, runtimeName?: string): string[] {
  const old = new Map(leaves(before));
  const changed = new Map(leaves(after));
  return [...new Set([...old.keys(), ...changed.keys()])]
    .filter((path) => old.get(path) !== changed.get(path) && !isOurs(path.split('\0'), runtimeName))
    .map((path) => path.replaceAll('\0', '.'));
}

/** `imports` of 1.x lists the file itself, which has another name while it is tried. */
function isOurs([first, second = '', ...rest]: TomlPath, runtimeName: string | undefined): boolean {
  if (first === 'imports' || first === 'version') return true;
  if (first === 'proxy_plugins') return second === SNAPSHOTTER_NAME;
  if (first === 'stream_processors') return processorIds().includes(second);
  if (second === TRANSFER_V3) return rest[0] === 'unpack_config';
  const runtime = rest.findIndex((key) => key === 'runtimes' || key === 'runtime_platforms');
  if (runtime !== -1) return rest[runtime + 1] === runtimeName;
  return ['snapshotter', 'disable_snapshot_annotations', 'key_model'].includes(rest.at(-1) ?? '');
}

/** What containerd takes for a setting that is not there: a dump shows it where a table is, and nothing where it is not. */
const UNSET: ReadonlySet<string> = new Set(['""', 'false', '0', '[]']);

/** Path, joined by NUL, and JSON of every value that is set and is not a table. */
function leaves(table: TomlTable, above: TomlPath = []): [string, string][] {
  return Object.entries(table).flatMap(([key, value]): [string, string][] => {
    const path = [...above, key];
    if (isTable(value)) return leaves(value, path);
    const text = JSON.stringify(value);
    return UNSET.has(text) ? [] : [[path.join('\0'), text]];
  });
}

function criContainerd(dump: TomlTable): TomlTable {
  const newer = tableAt(dump, ['plugins', CRI_RUNTIME_V3, 'containerd']);
  return Object.keys(newer).length > 0 ? newer : tableAt(dump, ['plugins', CRI_V2, 'containerd']);
}

function runtimes(dump: TomlTable): TomlTable {
  return tableAt(criContainerd(dump), ['runtimes']);
}

/** Where 2.x unpacks what it pulls for a pod of a runtime class. */
function pullsInto(dump: TomlTable, runtimeName: string): unknown {
  return valueAt(dump, ['plugins', CRI_IMAGES_V3, 'runtime_platforms', runtimeName, 'snapshotter']);
}

function discards(dump: TomlTable): boolean {
  const places = [
    ['plugins', CRI_V2, 'containerd'],
    ['plugins', CRI_IMAGES_V3],
  ];
  return places.some((path) => tableAt(dump, path)['discard_unpacked_layers'] === true);
}

function unpacks(dump: TomlTable): boolean {
  const list = valueAt(dump, ['plugins', TRANSFER_V3, 'unpack_config']);
  return (
    Array.isArray(list) && list.some((entry) => isTable(entry) && entry['snapshotter'] === SNAPSHOTTER_NAME)
  );
}
