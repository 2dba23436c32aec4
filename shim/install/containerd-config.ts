/**
 * containerd's configuration with Latchkey in it, as a pure function of the one that was there. The tables
 * differ by configuration version: 2 for containerd 1.x, 3 for 2.x (where a version 2 file silently loses its
 * snapshotter in migration).
 */
import { LatchkeyError } from '#src/base/errors.ts';
import { SNAPSHOTTER_NAME } from '../snapshotter/name.ts';

/** What smol-toml gives for a table. */
export type TomlTable = Record<string, unknown>;

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

const CRI_V2 = 'io.containerd.grpc.v1.cri';
const CRI_IMAGES_V3 = 'io.containerd.cri.v1.images';
const TRANSFER_V3 = 'io.containerd.transfer.v1.local';

export interface GateConfiguration {
  /** Version of the installed containerd: `1.6.20`. */
  readonly containerdVersion: string;
  /** Socket on which the agent serves the snapshotter. */
  readonly snapshotterSocket: string;
  /** The stream processor's program and arguments. */
  readonly processor: { readonly path: string; readonly args: readonly string[] };
  /** Directory of the snapshotter's data, so that a kubelet finds its disk statistics (1.7 and later). */
  readonly snapshotterRoot: string;
  /** Platform that is unpacked: `linux/amd64`. */
  readonly platform: string;
}

interface Version {
  readonly major: number;
  readonly minor: number;
}

/**
 * Reads what `containerd --version` or the version call says.
 * @throws LatchkeyError CONFIG_INVALID for versions before 1.6
 */
export function parseContainerdVersion(text: string): Version {
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

/** Version of the configuration file in which a containerd takes everything that the gate needs. */
export function configurationVersion({ major }: { readonly major: number }): 2 | 3 {
  return major >= 2 ? 3 : 2;
}

/**
 * The configuration with the proxy snapshotter, the stream processors and the CRI snapshotter set.
 * Everything else is kept. Applying it twice gives the same.
 * @throws LatchkeyError CONFIG_INVALID for an unsupported containerd or a configuration that cannot be kept
 */
export function withLatchkey(existing: TomlTable, gate: GateConfiguration): TomlTable {
  const version = parseContainerdVersion(gate.containerdVersion);
  const configVersion = configurationVersion(version);
  refuseOtherVersion(existing, configVersion);
  const plugins = configVersion === 3 ? pluginsV3(existing, gate) : pluginsV2(existing);
  return merge(existing, {
    version: configVersion,
    proxy_plugins: { [SNAPSHOTTER_NAME]: proxyPlugin(gate, version) },
    stream_processors: streamProcessors(gate),
    plugins,
  });
}

/**
 * Tables have other names in other versions, so raising the number alone would make containerd ignore what the
 * operator has set, or not start at all. A file without a number is of version 1.
 */
function refuseOtherVersion(existing: TomlTable, wanted: number): void {
  const version = existing['version'] ?? 1;
  if (version === wanted || Object.keys(existing).every((key) => key === 'version')) return;
  throw new LatchkeyError(
    'CONFIG_INVALID',
    `containerd's configuration is of version ${JSON.stringify(version)}, Latchkey needs version ${wanted}`,
    {
      hint:
        wanted === 3
          ? "convert it first with 'containerd config migrate'; nothing was changed"
          : "write it anew from 'containerd config default' first; nothing was changed",
    },
  );
}

function proxyPlugin(gate: GateConfiguration, version: Version): TomlTable {
  const entry: TomlTable = { type: 'snapshot', address: gate.snapshotterSocket };
  const hasExports = version.major >= 2 || version.minor >= 7;
  return hasExports ? { ...entry, exports: { root: gate.snapshotterRoot } } : entry;
}

function streamProcessors(gate: GateConfiguration): TomlTable {
  return Object.fromEntries(
    PROCESSORS.map(({ id, accepts, returns }) => [
      id,
      { accepts: [...accepts], returns, path: gate.processor.path, args: [...gate.processor.args], env: [] },
    ]),
  );
}

function pluginsV2(existing: TomlTable): TomlTable {
  refuseDiscard(table(existing, 'plugins', CRI_V2, 'containerd'));
  return {
    [CRI_V2]: {
      containerd: { snapshotter: SNAPSHOTTER_NAME, disable_snapshot_annotations: false },
      image_decryption: { key_model: 'node' },
    },
  };
}

function pluginsV3(existing: TomlTable, gate: GateConfiguration): TomlTable {
  refuseDiscard(table(existing, 'plugins', CRI_IMAGES_V3));
  return {
    [CRI_IMAGES_V3]: {
      snapshotter: SNAPSHOTTER_NAME,
      disable_snapshot_annotations: false,
      image_decryption: { key_model: 'node' },
    },
    [TRANSFER_V3]: {
      // The default has to be repeated: setting one entry replaces the whole list.
      unpack_config: [
        { platform: gate.platform, snapshotter: SNAPSHOTTER_NAME },
        { platform: gate.platform, snapshotter: 'overlayfs' },
      ],
    },
  };
}

/** Re-deriving a layer needs its encrypted blob, which this setting deletes. */
function refuseDiscard(cri: TomlTable): void {
  if (cri['discard_unpacked_layers'] === true) {
    throw new LatchkeyError('CONFIG_INVALID', 'containerd is set to discard_unpacked_layers = true', {
      hint: 'set it to false: Latchkey decrypts from the kept layers at each start',
    });
  }
}

function table(root: TomlTable, ...path: string[]): TomlTable {
  let current: unknown = root;
  for (const key of path) current = isTable(current) ? current[key] : undefined;
  return isTable(current) ? current : {};
}

function isTable(value: unknown): value is TomlTable {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

function merge(base: TomlTable, change: TomlTable): TomlTable {
  const result: TomlTable = { ...base };
  for (const [key, value] of Object.entries(change)) {
    const before = result[key];
    result[key] = isTable(before) && isTable(value) ? merge(before, value) : value;
  }
  return result;
}
