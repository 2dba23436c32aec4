/** The agent's configuration: a TOML file, or what the command line says, checked once. */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { parse } from 'smol-toml';
import * as z from 'zod';
import { LatchkeyError } from '#src/base/errors.ts';
import { PLAINTEXT_STORES } from '../snapshotter/plaintext-store.ts';
import type { StoreSettings } from '../snapshotter/store-choice.ts';
import { parseSizeBytes } from './size-setting.ts';
import { parseNodeKeySetting } from './node-key-setting.ts';
import { DEFAULT_NODE_MODE, NODE_MODES, type NodeMode } from './node-mode.ts';
import type { TokenKeyUri } from './token-key.ts';

export const DEFAULT_CONFIG_PATH = '/etc/latchkey/node.toml';
export const DEFAULT_STATE_DIRECTORY = '/var/lib/latchkey/node';
export const DEFAULT_RUNTIME_DIRECTORY = '/run/latchkey';

/** Half of a node's memory at most may hold plaintext; an image that does not fit is refused with a message. */
const DEFAULT_PLAINTEXT_CAPACITY = '50%';
const DEFAULT_IDLE_DROP_SECONDS = 600;
const DEFAULT_STOP_GRACE_SECONDS = 10;

/** A day; setTimeout takes at most 24 of them and would end containers at once for more. */
const MAX_STOP_GRACE_SECONDS = 86_400;

const MAX_PORT = 65_535;

/** A name, an IPv4 address, or an IPv6 address in brackets. */
const address = z
  .string()
  .regex(/^(?:[^\s:[\]]+|\[[\da-fA-F:.]+\]):\d{1,5}$/, 'must be host:port, or [address]:port for IPv6')
  .refine((text) => portOf(text) <= MAX_PORT, `must have a port of at most ${MAX_PORT}`);
/** Of somebody who listens; where to listen, 0 means any port that is free. */
const remoteAddress = address.refine((text) => portOf(text) > 0, 'must have a port, and 0 is none');

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;

const configSchema = z.strictObject({
  /** Of the key server, for nodes. */
  key_server: remoteAddress,
  /** Where nodes are activated. */
  enrollment: remoteAddress,
  /** PEM file of the key server's authority. */
  authority_file: z.string(),
  mode: z.enum(NODE_MODES).default(DEFAULT_NODE_MODE),
  containerd_address: z.string().default('/run/containerd/containerd.sock'),
  state_directory: z.string().default(DEFAULT_STATE_DIRECTORY),
  runtime_directory: z.string().default(DEFAULT_RUNTIME_DIRECTORY),
  node_name: z.string().min(1).max(253).default(hostname()),
  /** What the vendor tells a customer's clusters apart by: the cluster's own id, or a name. */
  installation: z.string().min(1).max(128).default('auto'),
  /** A `pkcs11:` URI of a key on a token; by default the node key is in a file. */
  node_key: z.string().optional(),
  /** With which to ask the cluster who it is. */
  kubeconfig: z.string().optional(),
  /** Size of the memory-backed store, as tmpfs takes it: bytes with k, m, g, or a share of memory. */
  plaintext_capacity: z
    .string()
    // tmpfs takes a size of 0 for no limit at all.
    .regex(/^[1-9]\d*(?:[kmgKMG]|%)?$/, 'must be a size like 2g or a share like 50%')
    .default(DEFAULT_PLAINTEXT_CAPACITY),
  /** Where the plaintext of encrypted layers is kept. */
  plaintext_store: z.enum(PLAINTEXT_STORES).default('memory'),
  /** Size of the encrypted volume; it has no default, because its blocks are taken from the disk at once. */
  volume_capacity: z
    .string()
    .regex(/^[1-9]\d*[kmgtKMGT]?$/, 'must be a size like 100g')
    .optional(),
  /** File that holds the encrypted volume. */
  volume_path: z.string().regex(/^\/./, 'must be an absolute path').optional(),
  /** Drops plaintext when the agent ends, too; it is off so that a restarted agent need not decrypt again. */
  drop_at_shutdown: z.boolean().default(false),
  idle_drop_seconds: z.int().positive().default(DEFAULT_IDLE_DROP_SECONDS),
  /**
   * A service for tools with ocicrypt's key providers (skopeo, podman, CRI-O, nerdctl), off unless it has a socket. It
   * answers under the same license decision, but what these tools decrypt is plain on their disk, stays there after a
   * revocation, and its starts ask nobody. Only starts on the latchkey snapshotter are gated.
   */
  key_provider: z
    .strictObject({
      socket: z
        .string()
        .regex(/^\/./, 'must be an absolute path')
        // A unix socket's path has at most 107 bytes, and it is bound under a longer name first.
        .max(80, 'must have at most 80 characters'),
    })
    .optional(),
  /** `node` starts the stream processor through Node also where the native one would run. */
  processor: z.enum(['auto', 'node']).default('auto'),
  /** Of metrics over HTTP, which anybody who reaches it can read; off unless set. A unix socket serves them always. */
  metrics_listen: address.optional(),
  log_level: z.enum(LOG_LEVELS).default('info'),
  stop_grace_seconds: z.int().nonnegative().max(MAX_STOP_GRACE_SECONDS).default(DEFAULT_STOP_GRACE_SECONDS),
});

export type AgentConfigFile = z.input<typeof configSchema>;

/** Which stream processor containerd gets: native code where there is some, or one that Node runs. */
export type ProcessorKind = 'auto' | 'node';

export interface AgentConfig {
  readonly keyServerAddress: string;
  readonly enrollmentAddress: string;
  readonly authorityFile: string;
  readonly mode: NodeMode;
  readonly containerdAddress: string;
  readonly nodeName: string;
  /** `auto`, or a name. */
  readonly installation: string;
  readonly kubeconfig: string | undefined;
  /** Undefined = in a file. */
  readonly nodeKey: TokenKeyUri | undefined;
  readonly store: StoreSettings;
  readonly dropAtShutdown: boolean;
  readonly idleDropAfterMs: number;
  readonly stopGraceMs: number;
  /** Undefined = no key provider service. */
  readonly keyProviderSocket: string | undefined;
  readonly processor: ProcessorKind;
  /** Undefined = on the unix socket only. */
  readonly metricsListen: string | undefined;
  readonly logLevel: (typeof LOG_LEVELS)[number];
  readonly paths: AgentPaths;
}

export interface AgentPaths {
  readonly identityDirectory: string;
  readonly journalFile: string;
  /** Locked by the agent that uses the state directory. */
  readonly lockFile: string;
  /** Which license allowed which image; no keys. */
  readonly licensedImagesFile: string;
  /** Files of snapshots that are not secret. */
  readonly diskDirectory: string;
  /** Where the plaintext store is mounted. */
  readonly memoryDirectory: string;
  readonly processorProgram: string;
  readonly runtimeDirectory: string;
  readonly agentSocket: string;
  readonly snapshotterSocket: string;
  readonly processorSocket: string;
  /** What podman and CRI-O run before each start, in the mode `hook`. */
  readonly hookProgram: string;
  readonly hookSocket: string;
  readonly metricsSocket: string;
}

/** Where the agent keeps what, from its two directories. */
export function agentPaths(stateDirectory: string, runtimeDirectory: string): AgentPaths {
  return {
    identityDirectory: join(stateDirectory, 'identity'),
    journalFile: join(stateDirectory, 'snapshots.db'),
    lockFile: join(stateDirectory, 'agent.lock'),
    licensedImagesFile: join(stateDirectory, 'licensed-images.json'),
    diskDirectory: join(stateDirectory, 'snapshots'),
    memoryDirectory: join(stateDirectory, 'plaintext'),
    processorProgram: join(stateDirectory, 'latchkey-processor'),
    runtimeDirectory,
    agentSocket: join(runtimeDirectory, 'agent.sock'),
    snapshotterSocket: join(runtimeDirectory, 'snapshotter.sock'),
    processorSocket: join(runtimeDirectory, 'processor.sock'),
    hookProgram: join(stateDirectory, 'latchkey-hook'),
    hookSocket: join(runtimeDirectory, 'hook.sock'),
    metricsSocket: join(runtimeDirectory, 'metrics.sock'),
  };
}

/**
 * Reads the configuration.
 * @param text the TOML document
 * @param path where it came from, for messages
 * @throws LatchkeyError CONFIG_INVALID naming the first wrong setting
 */
export function parseAgentConfig(text: string, path: string): AgentConfig {
  const parsed = configSchema.safeParse(parseToml(text, path));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue?.path.join('.') ?? '';
    throw new LatchkeyError(
      'CONFIG_INVALID',
      `${path}: ${where === '' ? '' : `${where}: `}${issue?.message ?? ''}`,
      {
        hint: 'see docs/operator-guide.md for the settings',
      },
    );
  }
  const file = parsed.data;
  return {
    keyServerAddress: file.key_server,
    enrollmentAddress: file.enrollment,
    authorityFile: file.authority_file,
    mode: file.mode,
    containerdAddress: file.containerd_address,
    nodeName: file.node_name,
    installation: file.installation,
    kubeconfig: file.kubeconfig,
    nodeKey: file.node_key === undefined ? undefined : parseNodeKeySetting(file.node_key, path),
    store: storeSettings(file, path),
    dropAtShutdown: file.drop_at_shutdown,
    idleDropAfterMs: file.idle_drop_seconds * 1000,
    stopGraceMs: file.stop_grace_seconds * 1000,
    keyProviderSocket: file.key_provider?.socket,
    processor: file.processor,
    metricsListen: file.metrics_listen,
    logLevel: file.log_level,
    paths: agentPaths(file.state_directory, file.runtime_directory),
  };
}

function portOf(text: string): number {
  return Number(text.slice(text.lastIndexOf(':') + 1));
}

function storeSettings(file: z.output<typeof configSchema>, path: string): StoreSettings {
  if (file.plaintext_store === 'encrypted-volume' && file.volume_capacity === undefined) {
    throw new LatchkeyError('CONFIG_INVALID', `${path}: plaintext_store = "encrypted-volume" needs a size`, {
      hint: 'set volume_capacity, for example to 100g',
    });
  }
  return {
    kind: file.plaintext_store,
    directory: agentPaths(file.state_directory, file.runtime_directory).memoryDirectory,
    memoryCapacity: file.plaintext_capacity,
    volumeCapacityBytes: parseSizeBytes(file.volume_capacity ?? '0'),
    volumeFile: file.volume_path ?? join(file.state_directory, 'plaintext.volume'),
  };
}

function parseToml(text: string, path: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    const [line] = (error instanceof Error ? error.message : String(error)).split('\n');
    throw new LatchkeyError('CONFIG_INVALID', `${path}: ${line ?? 'not TOML'}`, { cause: error });
  }
}
