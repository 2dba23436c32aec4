/** A snapshot as the snapshotter knows it, and what its containerd key says. */
import type { Digest } from '#src/oci/digest.ts';
import { isDigest } from '#src/oci/digest.ts';

export type SnapshotKind = 'active' | 'view' | 'committed';

/** Where a snapshot's files are: an ordinary directory, or the memory-backed store for plaintext. */
export type SnapshotStore = 'disk' | 'memory';

/** The layer a committed snapshot was made from; with it the files can be made again. */
export interface SnapshotLayer {
  /** containerd namespace that holds the blob. */
  readonly namespace: string;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly sizeBytes: number;
  readonly diffId: Digest;
  readonly encrypted: boolean;
}

/**
 * Which key opens a gated layer, for which image. The wrapped layer key is kept with it, because the manifest
 * it came from may be collected while a container still needs the layer; it is of no use without the image key.
 */
export interface SnapshotGateRecord {
  readonly imageKeyId: string;
  readonly imageDigest: Digest;
  /** The ISV's contact line, for a denial on a node that has no license. */
  readonly contact?: string | undefined;
  /** The element of the latchkey annotation, base64. */
  readonly element: string;
  /** The public options annotation, base64. */
  readonly publicOptions: string;
  /** The encrypted blob that this key opens. */
  readonly blob: Pick<SnapshotLayer, 'digest' | 'mediaType' | 'sizeBytes'>;
}

export interface Snapshot {
  /** Names the directory; never reused. */
  readonly id: number;
  /** containerd's key: `<namespace>/<number>/<name>`. */
  readonly key: string;
  readonly parent: string | null;
  readonly kind: SnapshotKind;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly store: SnapshotStore;
  /** Of the files, counted once at commit. */
  readonly sizeBytes: number;
  readonly inodes: number;
  /** Set on committed snapshots that can be made again from a blob. */
  readonly layer: SnapshotLayer | null;
  /** Set on snapshots of encrypted layers: the key that opened a committed one, or may open one being unpacked. */
  readonly gate: SnapshotGateRecord | null;
}

export interface ParsedKey {
  readonly namespace: string;
  /** The part after namespace and number. */
  readonly name: string;
}

/** Takes containerd's backend key apart (metadata/snapshot.go, createKey). */
export function parseKey(key: string): ParsedKey {
  const [namespace = '', number = '', ...rest] = key.split('/');
  if (rest.length === 0 || !/^\d+$/.test(number)) return { namespace: '', name: key };
  return { namespace, name: rest.join('/') };
}

const EXTRACTION_PATTERN = /^extract-\S+ (sha256:[0-9a-f]{64})$/;
/** containerd's label that says which chain ID an extraction will be committed as. */
const REFERENCE_LABEL = 'containerd.io/snapshot.ref';

/** The chain ID an extraction is for; null when the key is not one of an extraction. */
export function extractionChainId(key: string, labels: Readonly<Record<string, string>>): Digest | null {
  const fromKey = EXTRACTION_PATTERN.exec(parseKey(key).name)?.[1];
  if (isDigest(fromKey)) return fromKey;
  const fromLabel = labels[REFERENCE_LABEL];
  return isDigest(fromLabel) ? fromLabel : null;
}
