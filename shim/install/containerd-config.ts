/**
 * What containerd has to be told for each mode, as changes to the configuration that is there. The tables have other
 * names in other versions of the file: 1 and 2 for containerd 1.x, 3 for 2.x. A 2.x also reads older files, but loses
 * the snapshotter of some of them in migration; tables with the names of version 3 survive it in a file of any version
 * (tried with 2.1.9), so there both are written.
 */
import { LatchkeyError } from '#src/base/errors.ts';
import type { NodeMode } from '../agent/node-mode.ts';
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';
import {
  type TomlChange,
  type TomlPath,
  type TomlTable,
  type TomlValue,
  changedTable,
  isTable,
  tableAt,
  valueAt,
} from './toml-change.ts';

export type { TomlTable };

/**
 * The first two IDs are those of containerd's default configuration and of imgcrypt: CRI sends its payload to
 * exactly these, and entries under other IDs would compete with the default ones. zstd has none there; its layers come
 * without a payload and are known by their first bytes.
 */
const PROCESSORS = (['', 'gzip', 'zstd'] as const).map((compression) => {
  const typeOf = (family: string) => `${family}.v1.tar${compression === '' ? '' : `+${compression}`}`;
  const layer = 'application/vnd.oci.image.layer';
  return {
    id: `io.containerd.ocicrypt.decoder.v1.tar${compression === '' ? '' : `.${compression}`}`,
    accepts: [`${typeOf(layer)}+encrypted`, `${typeOf(`${layer}.nondistributable`)}+encrypted`],
    returns: typeOf(layer),
  };
});

/** The entries of `stream_processors` that are ours. */
export function processorIds(): string[] {
  return PROCESSORS.map(({ id }) => id);
}

/** What CRI's plugin is called in files of version 1 and 2; version 3 has two plugins in its place. */
export const CRI_V1 = 'cri';
export const CRI_V2 = 'io.containerd.grpc.v1.cri';
export const CRI_IMAGES_V3 = 'io.containerd.cri.v1.images';
export const CRI_RUNTIME_V3 = 'io.containerd.cri.v1.runtime';
export const TRANSFER_V3 = 'io.containerd.transfer.v1.local';

export const DEFAULT_RUNTIME_CLASS = 'latchkey';

export interface GateConfiguration {
  /** Version of the installed containerd: `1.6.20`. */
  readonly containerdVersion: string;
  /** Left out: `snapshotter`. */
  readonly mode?: NodeMode;
  /** Socket on which the agent serves the snapshotter. */
  readonly snapshotterSocket: string;
  /** The stream processor's program and arguments. */
  readonly processor: { readonly path: string; readonly args: readonly string[] };
  /** Directory of the snapshotter's data, so that a kubelet finds its disk statistics (1.7 and later). */
  readonly snapshotterRoot: string;
  /** Platform that is unpacked: `linux/amd64`. */
  readonly platform: string;
  /** For the mode `runtime-class`: name of the handler, and the runtime that it is like. */
  readonly runtimeClass?: {
    readonly name: string;
    readonly like: { readonly name: string; readonly table: TomlTable };
  };
}

export interface ContainerdVersion {
  readonly major: number;
  readonly minor: number;
}

/**
 * Reads what `containerd --version` or the version call says.
 * @throws LatchkeyError CONFIG_INVALID for versions before 1.6
 */
export function parseContainerdVersion(text: string): ContainerdVersion {
  const match = /\bv?(\d+)\.(\d+)(?:\.\d+)?/.exec(text);
  const version = { major: Number(match?.[1]), minor: Number(match?.[2]) };
  const supported = version.major > 1 || (version.major === 1 && version.minor >= 6);
  if (match === null || !supported) {
    throw new LatchkeyError('CONFIG_INVALID', `containerd ${text.trim()} is not supported`, {
      hint: 'Latchkey needs containerd 1.6 or later',
    });
  }
  return version;
}

/** Version of the configuration file that a containerd is given where there is none yet. */
export function configurationVersion({ major }: { readonly major: number }): 2 | 3 {
  return major >= 2 ? 3 : 2;
}

/**
 * What has to be changed so that this containerd is gated.
 * @param existing the file as it is, without what an earlier installation put there
 * @throws LatchkeyError CONFIG_INVALID for a containerd or a file that cannot be gated in this mode
 */
export function gateChanges(existing: TomlTable, gate: GateConfiguration): TomlChange[] {
  const { mode = 'snapshotter' } = gate;
  if (mode === 'hook') return [];
  const version = parseContainerdVersion(gate.containerdVersion);
  const names = namesFor(existing, version);
  refuseDiscard(existing, names);
  const changes: TomlChange[] = [...versionChange(existing, version), ...processorChanges(gate)];
  const setCri = (key: string, value: TomlValue, ...below: string[]) =>
    changes.push(...names.images.map((table) => set([...table, ...below], key, value)));
  if (names.v3) changes.push(set(['plugins', CRI_IMAGES_V3, 'image_decryption'], 'key_model', 'node'));
  else changes.push(set(['plugins', names.cri, 'image_decryption'], 'key_model', 'node'));
  if (mode === 'sweep') return changes;
  changes.push(proxyPlugin(gate, version));
  if (names.v3) changes.push(...unpackChanges(existing, gate));
  if (mode === 'runtime-class') return [...changes, ...runtimeChanges(existing, gate, version, names)];
  setCri('snapshotter', SNAPSHOTTER_NAME);
  setCri('disable_snapshot_annotations', false);
  return changes;
}

/**
 * The configuration with Latchkey in it. Everything else is kept. Applying it twice gives the same.
 * @throws LatchkeyError CONFIG_INVALID as `gateChanges`
 */
export function withLatchkey(existing: TomlTable, gate: GateConfiguration): TomlTable {
  return changedTable(existing, gateChanges(existing, gate));
}

interface Names {
  readonly cri: string;
  /** True when tables are written with the names of version 3. */
  readonly v3: boolean;
  /** Tables that hold CRI's snapshotter. */
  readonly images: readonly TomlPath[];
}

function namesFor(existing: TomlTable, version: ContainerdVersion): Names {
  const fileVersion = isEmpty(existing) ? configurationVersion(version) : (existing['version'] ?? 1);
  if (fileVersion !== 1 && fileVersion !== 2 && fileVersion !== 3) return unknownVersion(fileVersion);
  const v3 = version.major >= 2;
  if (fileVersion === 3 && !v3) return unknownVersion(fileVersion);
  const cri = fileVersion === 1 ? CRI_V1 : CRI_V2;
  const older = ['plugins', cri, 'containerd'];
  const newer = ['plugins', CRI_IMAGES_V3];
  // A value of the older name that is there would win over ours.
  const hasOlder = fileVersion !== 3 && valueAt(existing, older) !== undefined;
  if (!v3) return { cri, v3, images: [older] };
  return { cri, v3, images: hasOlder ? [older, newer] : [newer] };
}

function unknownVersion(version: unknown): never {
  throw new LatchkeyError(
    'CONFIG_INVALID',
    `this containerd does not read a configuration of version ${JSON.stringify(version)}`,
    { hint: "write it anew from 'containerd config default' first; nothing was changed" },
  );
}

function isEmpty(existing: TomlTable): boolean {
  return Object.keys(existing).every((key) => key === 'version');
}

/** A file that says nothing yet gets the version; one without a version that says something is of version 1. */
function versionChange(existing: TomlTable, version: ContainerdVersion): TomlChange[] {
  return isEmpty(existing) ? [set([], 'version', configurationVersion(version))] : [];
}

function set(table: TomlPath, key: string, value: TomlValue): TomlChange {
  return { kind: 'set', table, key, value };
}

function proxyPlugin(gate: GateConfiguration, version: ContainerdVersion): TomlChange {
  const hasExports = version.major >= 2 || version.minor >= 7;
  return {
    kind: 'own',
    table: ['proxy_plugins', SNAPSHOTTER_NAME],
    entries: { type: 'snapshot', address: gate.snapshotterSocket },
    ...(hasExports ? { tables: { exports: { root: gate.snapshotterRoot } } } : {}),
  };
}

function processorChanges({ processor }: GateConfiguration): TomlChange[] {
  return PROCESSORS.map(({ id, accepts, returns }) => ({
    kind: 'own',
    table: ['stream_processors', id],
    entries: { accepts, returns, path: processor.path, args: processor.args, env: [] },
  }));
}

/** A list that is set replaces the default, which then has to be repeated: other images need it. */
function unpackChanges(existing: TomlTable, gate: GateConfiguration): TomlChange[] {
  const table = ['plugins', TRANSFER_V3, 'unpack_config'];
  const append = (snapshotter: string): TomlChange => ({
    kind: 'append',
    table,
    entries: { platform: gate.platform, snapshotter },
  });
  const isSet = Array.isArray(valueAt(existing, table));
  return isSet ? [append(SNAPSHOTTER_NAME)] : [append(SNAPSHOTTER_NAME), append('overlayfs')];
}

function runtimeChanges(
  existing: TomlTable,
  gate: GateConfiguration,
  version: ContainerdVersion,
  names: Names,
): TomlChange[] {
  if (version.major === 1 && version.minor < 7) {
    throw new LatchkeyError(
      'CONFIG_INVALID',
      'containerd 1.6 has one snapshotter for all pods, so a runtime class cannot have its own',
      { hint: 'use containerd 1.7 or later, or --mode snapshotter' },
    );
  }
  const { name = DEFAULT_RUNTIME_CLASS, like = { name: 'runc', table: {} } } = gate.runtimeClass ?? {};
  const older = ['plugins', names.cri, 'containerd', 'runtimes'];
  const newer = ['plugins', CRI_RUNTIME_V3, 'containerd', 'runtimes'];
  const hasOlder = valueAt(existing, older) !== undefined;
  // Runtimes of both names are not merged: those of the newer one replace the others.
  const table = names.v3 && !hasOlder ? newer : older;
  const ours = runtime([...table, name], like.table, { snapshotter: SNAPSHOTTER_NAME });
  // In 1.x the first runtime that a file names replaces the default ones, without which CRI does not start.
  const keepsDefault = names.v3 || hasOlder;
  const changes = keepsDefault ? [ours] : [runtime([...table, like.name], like.table, {}), ours];
  if (!names.v3) return changes;
  // There the plugin that pulls has a table of its own for what a runtime's images are unpacked into.
  const platform: TomlChange = {
    kind: 'own',
    table: ['plugins', CRI_IMAGES_V3, 'runtime_platforms', name],
    entries: { platform: gate.platform, snapshotter: SNAPSHOTTER_NAME },
  };
  return [...changes, platform];
}

function runtime(path: TomlPath, like: TomlTable, change: Readonly<Record<string, TomlValue>>): TomlChange {
  const options = setEntries(tableAt(like, ['options']));
  return {
    kind: 'own',
    table: path,
    entries: { runtime_type: 'io.containerd.runc.v2', ...setEntries(like), ...change },
    ...(Object.keys(options).length === 0 ? {} : { tables: { options } }),
  };
}

/** What is set on a runtime; a dump also lists everything that is not. */
function setEntries(runtime: TomlTable): Record<string, TomlValue> {
  const entries = Object.entries(runtime).filter((entry): entry is [string, TomlValue] => {
    const [, value] = entry;
    if (Array.isArray(value)) return value.length > 0;
    return !isTable(value) && value !== '' && value !== false && value !== 0;
  });
  return Object.fromEntries(entries);
}

/** Re-deriving a layer needs its encrypted blob, which this setting deletes. */
function refuseDiscard(existing: TomlTable, { cri }: Names): void {
  const places = [
    ['plugins', cri, 'containerd'],
    ['plugins', CRI_IMAGES_V3],
  ];
  if (places.some((path) => tableAt(existing, path)['discard_unpacked_layers'] === true)) {
    throw new LatchkeyError('CONFIG_INVALID', 'containerd is set to discard_unpacked_layers = true', {
      hint: 'set it to false: Latchkey decrypts from the kept layers at each start',
    });
  }
}
