/** What the doctor says: one thing that it has looked at. */

/** Everything that it can find wrong. An id stays the same from version to version, so that scripts can look for it. */
export const FAULT_IDS = [
  'processor-not-called',
  'processor-foreign',
  'proxy-plugin-wrong',
  'snapshotter-lost',
  'runtime-class-missing',
  'unpack-config-missing',
  'exports-root-missing',
  'disk-statistics-missing',
  'discard-unpacked-layers',
  'containerd-config-refused',
  'containerd-missing',
  'containerd-not-running',
  'containerd-unreachable',
  'containerd-restart-needed',
  'several-containerds',
  'mounts-private',
  'payload-not-sent',
  'hook-file-missing',
  'hook-file-wrong',
  'processor-missing',
  'processor-not-executable',
  'processor-noexec',
  'processor-architecture',
  'runc-wrong',
  'overlay-missing',
  'swap-on',
  'node-key-readable',
  'root-key-readable',
  'store-program-missing',
  'store-not-mounted',
  'store-dead',
  'store-full',
  'agent-not-running',
  'agent-version',
  'snapshotter-socket-missing',
  'not-activated',
  'certificate-ends',
  'clock-off',
  'key-server-away',
  'license-refused',
] as const;

export type FaultId = (typeof FAULT_IDS)[number];

/** What is said of several checks at once when all of them are well. */
type CheckId = 'containerd-config' | 'hook-file' | 'processor' | 'runc';

/** `bad`: something does not work or is not protected; `warning`: it will not, or may not; `info`: worth knowing. */
export type Severity = 'ok' | 'info' | 'warning' | 'bad';

export interface Finding {
  readonly id: FaultId | CheckId;
  readonly severity: Severity;
  /** What is so. */
  readonly detail: string;
  /** What to do about it; missing where there is nothing to do. */
  readonly mend?: string;
}

export function ok(id: Finding['id'], detail: string): Finding {
  return { id, severity: 'ok', detail };
}

export function fault(
  id: FaultId,
  severity: Exclude<Severity, 'ok'>,
  detail: string,
  mend?: string,
): Finding {
  return { id, severity, detail, ...(mend === undefined ? {} : { mend }) };
}
