/**
 * The commands that make an encrypted volume and take it down. Pure: what is run, on what, and which command gets the
 * key on its standard input. No command line holds a key (proc(5) shows them to everybody).
 */

export interface VolumePlace {
  /** File that holds the ciphertext. */
  readonly file: string;
  /** Where the plain file system is mounted. */
  readonly directory: string;
  /** Where the file system with the ciphertext is mounted; used by gocryptfs only. */
  readonly cipherDirectory: string;
  /** Of the device, below /dev/mapper; used by dm-crypt only. */
  readonly deviceName: string;
}

export interface VolumeStep {
  readonly program: string;
  readonly args: readonly string[];
  readonly takesKey?: true;
  /** The program leaves a part of itself running, which must not hold pipes of ours. */
  readonly staysBehind?: true;
}

export interface VolumePlan {
  readonly open: readonly VolumeStep[];
  /** All of them are run, whatever becomes of the others: some have nothing to do. */
  readonly close: readonly VolumeStep[];
}

/** ext4 in a file that lives as long as the agent's key: nothing in it is worth a journal or reserved blocks. */
const MAKE_FILE_SYSTEM = [
  ...['-q', '-F', '-b', '4096', '-m', '0', '-O', '^has_journal'],
  ...['-E', 'nodiscard,lazy_itable_init=1'],
];

/** aes-xts with two keys of 256 bits. */
export const DEVICE_KEY_BYTES = 64;

/** Plain mode: no header, so nothing on the disk says what the file is or could hold the key in any form. */
export function deviceMapperPlan({ file, directory, deviceName }: VolumePlace): VolumePlan {
  const device = `/dev/mapper/${deviceName}`;
  const cipher = [
    '--type',
    'plain',
    '--cipher',
    'aes-xts-plain64',
    '--key-size',
    String(DEVICE_KEY_BYTES * 8),
  ];
  return {
    open: [
      // cryptsetup puts a loop device under the file, which goes away with the mapping.
      {
        program: 'cryptsetup',
        args: ['open', ...cipher, '--key-file', '-', '--batch-mode', file, deviceName],
        takesKey: true,
      },
      { program: 'mkfs.ext4', args: [...MAKE_FILE_SYSTEM, device] },
      { program: 'mount', args: ['-t', 'ext4', '-o', 'nodev,noatime', device, directory] },
    ],
    close: [{ program: 'cryptsetup', args: ['close', '--deferred', deviceName] }],
  };
}

/** The ciphertext is in a file system of its own, because gocryptfs by itself has no bound. */
export function gocryptfsPlan({ file, directory, cipherDirectory }: VolumePlace): VolumePlan {
  const cipher = `${cipherDirectory}/cipher`;
  return {
    open: [
      { program: 'mkfs.ext4', args: [...MAKE_FILE_SYSTEM, file] },
      {
        program: 'mount',
        args: ['-t', 'ext4', '-o', 'loop,nodev,nosuid,noexec,noatime', file, cipherDirectory],
      },
      { program: 'mkdir', args: ['-m', '700', cipher] },
      // The least work to make a key of it: it is random and as long as a key already.
      { program: 'gocryptfs', args: ['-init', '-q', '-scryptn', '10', cipher], takesKey: true },
      {
        program: 'gocryptfs',
        // Containers run as any user and may have set-user-ID programs; only root reaches the mount point. Without its
        // preallocation (-noprealloc) a full volume would answer EIO, which nobody understands.
        args: ['-q', '-nosyslog', '-allow_other', '-suid', cipher, directory],
        takesKey: true,
        staysBehind: true,
      },
    ],
    close: [],
  };
}
