/** The configuration of a lab containerd as its operator would have written it, before Latchkey is installed. */
import { join } from 'node:path';
import type { TomlTable } from '../shim/install/containerd-config.ts';

export interface LabConfiguration {
  readonly configurationVersion: 2 | 3;
  /** Everything of this containerd goes below. */
  readonly directory: string;
  readonly root: string;
  readonly address: string;
  readonly sandboxImage: string;
}

/** Pure: the whole file as a table. Nothing in it touches the containerd that the machine may run itself. */
export function labConfiguration(lab: LabConfiguration): TomlTable {
  const { configurationVersion, directory, root, address } = lab;
  return {
    version: configurationVersion,
    root,
    state: join(directory, 'state'),
    grpc: { address },
    plugins: {
      ...(configurationVersion === 3 ? criVersion3(lab) : criVersion2(lab)),
      'io.containerd.internal.v1.opt': { path: join(directory, 'opt') },
      'io.containerd.nri.v1.nri': {
        socket_path: join(directory, 'nri.sock'),
        plugin_path: join(directory, 'nri'),
        plugin_config_path: join(directory, 'nri'),
      },
    },
  };
}

const CRI_IMAGES = 'io.containerd.cri.v1.images';
const STREAM_SERVER = { stream_server_address: '127.0.0.1', stream_server_port: '0' };
/** Machines without CAP_SYS_RESOURCE cannot lower a score. */
const RUNTIME = { restrict_oom_score_adj: true };

function criVersion2(lab: LabConfiguration): TomlTable {
  const cni = join(lab.directory, 'cni');
  return {
    'io.containerd.grpc.v1.cri': {
      ...STREAM_SERVER,
      ...RUNTIME,
      sandbox_image: lab.sandboxImage,
      cni: { bin_dir: cni, conf_dir: cni },
      containerd: { snapshotter: 'overlayfs' },
    },
  };
}

function criVersion3(lab: LabConfiguration): TomlTable {
  const cni = join(lab.directory, 'cni');
  return {
    'io.containerd.grpc.v1.cri': STREAM_SERVER,
    'io.containerd.cri.v1.runtime': { ...RUNTIME, cni: { bin_dirs: [cni], conf_dir: cni } },
    [CRI_IMAGES]: {
      snapshotter: 'overlayfs',
      pinned_images: { sandbox: lab.sandboxImage },
    },
  };
}

/**
 * Pure: the configuration of a 2.x whose CRI pulls through the transfer service. Snapshot annotations have to be off:
 * containerd silently pulls locally for every setting that the transfer service does not know.
 */
export function pullingOverTransfer(configuration: TomlTable): TomlTable {
  const plugins = configuration['plugins'] as Readonly<Record<string, TomlTable>>;
  const images = { ...plugins[CRI_IMAGES], use_local_image_pull: false, disable_snapshot_annotations: true };
  return { ...configuration, plugins: { ...plugins, [CRI_IMAGES]: images } };
}

/** Pure: the configuration of a 2.x whose CRI pulls by itself: only then does it hand a decoder what it needs. */
export function pullingLocally(configuration: TomlTable): TomlTable {
  const plugins = configuration['plugins'] as Readonly<Record<string, TomlTable>>;
  const images = { ...plugins[CRI_IMAGES], use_local_image_pull: true };
  return { ...configuration, plugins: { ...plugins, [CRI_IMAGES]: images } };
}
