/** What can be wrong with how a key server is set up, and how to mend it. Pure: the facts are gathered elsewhere. */
import { DAY_MS } from '#src/base/units.ts';
import type { RootKeySlot } from '../custody/root-key-slot.ts';

/** An id stays the same from version to version, so that scripts can look for it. */
export type FindingId =
  | 'root-key-file'
  | 'root-key-beside-database'
  | 'root-key-readable'
  | 'emergency-slot'
  | 'token-pin-readable'
  | 'data-directory-readable'
  | 'admin-token-file'
  | 'database-volatile'
  | 'database-on-network'
  | 'database-durable'
  | 'database-standbys'
  | 'database-plain-line'
  | 'checkpoints'
  | 'backup'
  | 'slots-unknown';

/** `bad`: something is not protected, or can be lost; `warning`: it may; `info`: worth knowing. */
export interface Finding {
  readonly id: FindingId;
  readonly severity: 'ok' | 'info' | 'warning' | 'bad';
  readonly detail: string;
  readonly mend?: string;
}

export interface FileFacts {
  readonly path: string;
  readonly mode: number;
}

export interface PostgresFacts {
  readonly fsync: string;
  readonly synchronousCommit: string;
  readonly fullPageWrites: string;
  readonly standbyNames: string;
  /** Servers that the URL names. */
  readonly hosts: number;
  /** The line to it can be read, or taken over, by somebody in between. */
  readonly isLineOpen: boolean;
}

export interface ServerFacts {
  readonly nowMs: number;
  /** False before the first start. */
  readonly hasDatabase: boolean;
  /** Undefined when nobody could be asked. */
  readonly slots: readonly Pick<RootKeySlot, 'kind' | 'label'>[] | undefined;
  readonly rootKey: FileFacts | undefined;
  readonly isRootKeyOnDataDisk: boolean;
  readonly pin: FileFacts | undefined;
  readonly dataDirectory: FileFacts;
  readonly adminTokenPath: string | undefined;
  /** Of the data directory, as `statfs` numbers it. */
  readonly fileSystem: number;
  /** Undefined for SQLite. */
  readonly postgres: PostgresFacts | undefined;
  readonly checkpoints: { readonly path: string; readonly isOnDataDisk: boolean } | undefined;
  /** Undefined when nobody could be asked; null = none yet. */
  readonly lastBackupMs: number | null | undefined;
}

const OTHERS = 0o077;
/** statfs(2) */
const TMPFS = 0x01021994;
const NETWORK_FILE_SYSTEMS: Readonly<Record<number, string>> = {
  0x6969: 'NFS',
  0xff534d42: 'SMB',
  0xfe534d42: 'SMB',
};
/** A backup that is older has missed a week of licenses. */
const BACKUP_AGE_MS = 7 * DAY_MS;

/** Every check with its finding. */
export function diagnoseServer(facts: ServerFacts): Finding[] {
  return [
    ...rootKeyFindings(facts),
    ...slotFindings(facts),
    ...(facts.pin === undefined ? [] : [readableFinding('token-pin-readable', 'the PIN file', facts.pin)]),
    readableFinding('data-directory-readable', 'the data directory', facts.dataDirectory),
    ...adminTokenFindings(facts),
    ...(facts.postgres === undefined ? sqliteFindings(facts) : postgresFindings(facts.postgres)),
    checkpointFinding(facts),
    ...backupFindings(facts),
  ];
}

function rootKeyFindings({ slots, rootKey, isRootKeyOnDataDisk, postgres }: ServerFacts): Finding[] {
  const isBehindFile = slots?.some(({ kind }) => kind === 'file') ?? rootKey !== undefined;
  if (!isBehindFile) return [{ id: 'root-key-file', severity: 'ok', detail: 'the root key is in no file' }];
  const found: Finding[] = [
    {
      id: 'root-key-file',
      severity: 'warning',
      detail:
        'a file holds the root key, which is for development: whoever reads it and the database has every key',
      mend: 'add shares or a token (server add-shares, add-token), remove the slot of the file, and run server rotate --root',
    },
  ];
  if (rootKey === undefined) return found;
  found.push(readableFinding('root-key-readable', 'the root key file', rootKey));
  if (isRootKeyOnDataDisk && postgres === undefined) {
    found.push({
      id: 'root-key-beside-database',
      severity: 'warning',
      detail: `${rootKey.path} is on the same disk as the database: a thief of the disk, or of a copy of it, has both`,
      mend: 'move it to another disk, name it with --root-key, and destroy the copies that hold both',
    });
  }
  return found;
}

function slotFindings({ hasDatabase, slots }: ServerFacts): Finding[] {
  if (!hasDatabase) {
    return [
      {
        id: 'slots-unknown',
        severity: 'info',
        detail:
          'there is no database in the data directory, so that nothing is known of what opens the root key',
        mend: 'name the directory of `latchkey serve` with --data, or start it there first',
      },
    ];
  }
  if (slots === undefined) {
    return [
      {
        id: 'slots-unknown',
        severity: 'info',
        detail:
          'what opens the root key could not be asked: the database is in use, and the admin API does not answer here',
        mend: 'see `latchkey server status`',
      },
    ];
  }
  if (slots.length > 1) {
    const labels = slots.map(({ label }) => label).join(', ');
    return [
      { id: 'emergency-slot', severity: 'ok', detail: `${slots.length} slots open the root key: ${labels}` },
    ];
  }
  return [
    {
      id: 'emergency-slot',
      severity: 'warning',
      detail:
        'only one slot opens the root key: when it is lost, every key is lost, and no license starts anything',
      mend: 'run: latchkey server add-shares emergency, and keep those shares somewhere else',
    },
  ];
}

function readableFinding(id: FindingId, what: string, { path, mode }: FileFacts): Finding {
  if ((mode & OTHERS) === 0) return { id, severity: 'ok', detail: `${what} ${path} is for its owner alone` };
  return {
    id,
    severity: 'bad',
    detail: `others can get at ${what} ${path} (mode ${(mode & 0o777).toString(8)})`,
    mend: `run: chmod go= ${path}`,
  };
}

function adminTokenFindings({ adminTokenPath }: ServerFacts): Finding[] {
  if (adminTokenPath === undefined) return [];
  return [
    {
      id: 'admin-token-file',
      severity: 'info',
      detail: `an admin token is in ${adminTokenPath}`,
      mend: 'once everybody has a token: latchkey token revoke, and remove the file',
    },
  ];
}

function sqliteFindings({ fileSystem }: ServerFacts): Finding[] {
  if (fileSystem === TMPFS) {
    return [
      {
        id: 'database-volatile',
        severity: 'bad',
        detail: 'the database is in memory (tmpfs): a reboot loses every license and key',
        mend: 'move the data directory to a disk',
      },
    ];
  }
  const network = NETWORK_FILE_SYSTEMS[fileSystem];
  if (network !== undefined) {
    return [
      {
        id: 'database-on-network',
        severity: 'warning',
        detail: `the SQLite database is on ${network}, where locks and syncs may not hold`,
        mend: 'move the data directory to a disk of this machine, or use PostgreSQL',
      },
    ];
  }
  // The key server sets it itself, at every start.
  return [
    { id: 'database-durable', severity: 'ok', detail: 'SQLite syncs each commit (WAL, synchronous=FULL)' },
  ];
}

function postgresFindings(postgres: PostgresFacts): Finding[] {
  const found: Finding[] = [];
  const off = [
    ...(postgres.fsync === 'off' ? ['fsync'] : []),
    ...(postgres.fullPageWrites === 'off' ? ['full_page_writes'] : []),
  ];
  if (off.length > 0) {
    found.push({
      id: 'database-durable',
      severity: 'bad',
      detail: `PostgreSQL runs with ${off.join(' and ')} off: a power cut can damage the database, or bring a revoked license back`,
      mend: `set ${off.join(' and ')} to on in postgresql.conf, and reload it`,
    });
  } else if (['off', 'local'].includes(postgres.synchronousCommit)) {
    found.push({
      id: 'database-durable',
      severity: 'warning',
      detail:
        'synchronous_commit is off in PostgreSQL; the key server turns it on for itself, other programs do not',
      mend: 'set synchronous_commit to on in postgresql.conf, or for this user',
    });
  } else {
    found.push({
      id: 'database-durable',
      severity: 'ok',
      detail: `PostgreSQL syncs each commit (synchronous_commit=${postgres.synchronousCommit})`,
    });
  }
  if (postgres.hosts > 1 && postgres.standbyNames === '') {
    found.push({
      id: 'database-standbys',
      severity: 'warning',
      detail:
        'no standby confirms a commit (synchronous_standby_names is empty): a failover can lose the last ones, revocations among them',
      mend: 'set synchronous_standby_names',
    });
  }
  if (postgres.isLineOpen) {
    found.push({
      id: 'database-plain-line',
      severity: 'warning',
      detail: 'the line to PostgreSQL goes over a network without sslmode=verify-full',
      mend: 'add ?sslmode=verify-full to the URL: who is in between can change what the key server stores',
    });
  }
  return found;
}

function checkpointFinding({ checkpoints }: ServerFacts): Finding {
  if (checkpoints === undefined) {
    return {
      id: 'checkpoints',
      severity: 'info',
      detail:
        'not looked at: where checkpoints of the audit log are kept, which tell an older database from the true one',
      mend: 'give the --audit-checkpoints of `latchkey serve`, or begin to keep them',
    };
  }
  const { path, isOnDataDisk } = checkpoints;
  if (!isOnDataDisk) return { id: 'checkpoints', severity: 'ok', detail: `checkpoints are kept in ${path}` };
  return {
    id: 'checkpoints',
    severity: 'warning',
    detail: `the checkpoints in ${path} are on the disk of the database, and go back in time with it`,
    mend: 'name a directory on another disk with --audit-checkpoints',
  };
}

function backupFindings({ lastBackupMs, nowMs }: ServerFacts): Finding[] {
  if (lastBackupMs === undefined) return [];
  const mend = 'run: latchkey server backup FILE, every day';
  if (lastBackupMs === null) {
    return [
      { id: 'backup', severity: 'warning', detail: 'no backup was ever made with server backup', mend },
    ];
  }
  const detail = `the last backup was made at ${new Date(lastBackupMs).toISOString()}`;
  if (nowMs - lastBackupMs <= BACKUP_AGE_MS) return [{ id: 'backup', severity: 'ok', detail }];
  return [{ id: 'backup', severity: 'warning', detail, mend }];
}
