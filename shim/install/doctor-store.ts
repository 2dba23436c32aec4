/** What can be wrong with the plaintext store, of whatever kind it is. */
import { CAPACITY_SETTINGS, type PlaintextStoreKind } from '../snapshotter/plaintext-store.ts';
import { type Finding, fault, ok } from './finding.ts';

export interface StoreFacts {
  readonly kind: PlaintextStoreKind;
  /** `dead`: mounted, but its file system does not answer. */
  readonly mount: 'answers' | 'dead' | 'missing';
  /** Programs that it needs and this machine does not have. */
  readonly missingPrograms: readonly string[];
}

/** The store is called nearly full from here on. */
const NEARLY_FULL = 0.9;

/** Each entry is needed; of several names in one, any will do. */
const PROGRAMS: Readonly<Record<PlaintextStoreKind, readonly (readonly string[])[]>> = {
  memory: [],
  'compressed-memory': [['mkfs.erofs']],
  'encrypted-volume': [['mkfs.ext4'], ['cryptsetup', 'gocryptfs']],
};

/** Debian's packages of the programs. */
const PACKAGES: Readonly<Record<PlaintextStoreKind, string>> = {
  memory: '',
  'compressed-memory': 'erofs-utils',
  'encrypted-volume': 'e2fsprogs and cryptsetup, or gocryptfs and fuse3',
};

export function missingPrograms(kind: PlaintextStoreKind, isThere: (name: string) => boolean): string[] {
  return PROGRAMS[kind].filter((names) => !names.some(isThere)).map((names) => names.join(' or '));
}

/** These keep the agent from starting, so they are looked for also while it is away. */
export function storeProgramFindings({ kind, missingPrograms: missing }: StoreFacts): Finding[] {
  if (missing.length === 0) return [];
  const detail = `the store ${kind} needs ${missing.join(' and ')}, which is not on this machine`;
  const mend = `install ${PACKAGES[kind]}, or set plaintext_store = "memory", then restart the agent`;
  return [fault('store-program-missing', 'bad', detail, mend)];
}

export function storeFindings(
  { kind, mount }: StoreFacts,
  agent: { readonly plaintextBytes: number; readonly plaintextCapacityBytes: number },
): Finding[] {
  if (mount === 'missing') {
    return [
      fault(
        'store-not-mounted',
        'bad',
        'the plaintext store is not mounted here, although the agent runs: it may have a mount namespace of its own',
        'take PrivateTmp=, PrivateMounts=, ProtectSystem= and the like out of its service, then restart it',
      ),
    ];
  }
  if (mount === 'dead') {
    const cause = kind === 'encrypted-volume' ? ': gocryptfs, which serves it, has ended' : '';
    return [
      fault(
        'store-dead',
        'bad',
        `the plaintext store is mounted, but does not answer${cause}`,
        'restart the agent, which makes it anew; then start the containers of encrypted images again',
      ),
    ];
  }
  const { plaintextBytes: used, plaintextCapacityBytes: capacity } = agent;
  const detail = `${used} of ${capacity} bytes of the plaintext store are used`;
  if (capacity === 0 || used < capacity * NEARLY_FULL) return [ok('store-full', detail)];
  const mend = `raise ${CAPACITY_SETTINGS[kind]} in the agent’s configuration, or run 'latchkey node drop'`;
  return [fault('store-full', 'bad', detail, mend)];
}
