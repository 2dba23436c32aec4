/** What can be wrong with the machine itself: programs, files, kernel, memory. */
import { type FaultId, type Finding, fault, ok } from './finding.ts';

export interface MachineFacts {
  readonly hasOverlay: boolean;
  readonly isSwapOn: boolean;
  /** Of the plaintext store; undefined while nothing is mounted. */
  readonly store: { readonly neverSwapped: boolean } | undefined;
  /** The program of ours that is run: by containerd, or by podman and CRI-O in the mode `hook`. */
  readonly processor: ProgramFile;
  /** `x64`, as in process.arch */
  readonly architecture: string;
  /** What `runc --version` says, or why it says nothing; undefined where nothing of ours depends on it. */
  readonly runc:
    | ({ readonly program: string } & ({ readonly version: string } | { readonly failure: string }))
    | undefined;
  readonly nodeKey: KeyFile | undefined;
  /** A key server's on the same machine, when the operator has named it. */
  readonly rootKey: KeyFile | undefined;
  /** The agent's user. */
  readonly uid: number;
}

export interface ProgramFile {
  readonly purpose: 'stream processor' | 'start hook';
  readonly path: string;
  /** The first bytes; undefined when there is no file. */
  readonly head: Uint8Array | undefined;
  readonly isExecutable: boolean;
  readonly isOnNoexecMount: boolean;
}

export interface KeyFile {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
}

const OTHERS = 0o077;

/** e_machine of an ELF header (elf(5)), by process.arch. */
const ELF_MACHINES: Readonly<Record<string, number>> = { x64: 0x3e, arm64: 0xb7 };
const ELF_MACHINE_OFFSET = 18;

/** Older ones know neither all cgroups of version 2 nor the flags that newer kernels want. */
const OLDEST_RUNC_MAJOR = 1;

export function machineFindings(machine: MachineFacts): Finding[] {
  return [
    ...overlayFindings(machine),
    swapFinding(machine),
    ...processorFindings(machine),
    ...runcFindings(machine),
    ...keyFileFindings('node-key-readable', machine.nodeKey, machine.uid),
    ...keyFileFindings('root-key-readable', machine.rootKey, machine.rootKey?.uid ?? 0),
  ];
}

function overlayFindings({ hasOverlay }: MachineFacts): Finding[] {
  if (hasOverlay) return [];
  return [
    fault(
      'overlay-missing',
      'bad',
      'this kernel has no overlay filesystem',
      "load it: 'modprobe overlay', and name it in /etc/modules",
    ),
  ];
}

function swapFinding({ isSwapOn, store }: MachineFacts): Finding {
  if (!isSwapOn) return ok('swap-on', 'swap is off');
  if (store?.neverSwapped === true) return ok('swap-on', 'swap is on, but plaintext is never written to it');
  const mend =
    'turn swap off (swapoff -a, and its lines in /etc/fstab), or use a kernel of version 6.4 or later';
  if (store === undefined)
    return fault(
      'swap-on',
      'warning',
      'swap is on; whether plaintext could reach it shows once the agent runs',
      mend,
    );
  return fault('swap-on', 'bad', 'plaintext may be written to swap', mend);
}

function processorFindings({ processor, architecture }: MachineFacts): Finding[] {
  const { purpose, path, head, isExecutable, isOnNoexecMount } = processor;
  const restart = 'restart the agent, which writes it anew';
  if (head === undefined)
    return [fault('processor-missing', 'bad', `the ${purpose} ${path} is not there`, restart)];
  if (!isExecutable)
    return [fault('processor-not-executable', 'bad', `the ${purpose} ${path} is not executable`, restart)];
  if (isOnNoexecMount)
    return [
      fault(
        'processor-noexec',
        'bad',
        `the ${purpose} ${path} is on a filesystem that is mounted noexec`,
        'mount it without noexec, or set state_directory to another one and run node install again',
      ),
    ];
  const isElf = head[0] === 0x7f && head[1] === 0x45;
  const machine = (head[ELF_MACHINE_OFFSET] ?? 0) + (head[ELF_MACHINE_OFFSET + 1] ?? 0) * 256;
  if (isElf && machine !== ELF_MACHINES[architecture])
    return [
      fault('processor-architecture', 'bad', `the ${purpose} ${path} is not for ${architecture}`, restart),
    ];
  return [ok('processor', `${path} can be run`)];
}

function runcFindings({ runc }: MachineFacts): Finding[] {
  if (runc === undefined) return [];
  if ('failure' in runc) {
    const mend = runc.failure.includes('GLIBC')
      ? 'it is made for a newer system: install the runc of this one'
      : "install runc, or correct BinaryName in containerd's configuration";
    return [fault('runc-wrong', 'bad', `${runc.program} cannot be run: ${runc.failure}`, mend)];
  }
  const [, major = ''] = /(\d+)\.\d+/.exec(runc.version) ?? [];
  const detail = `${runc.program} is version ${runc.version}`;
  if (Number(major) < OLDEST_RUNC_MAJOR)
    return [fault('runc-wrong', 'bad', detail, 'install runc 1.0 or later')];
  return [ok('runc', detail)];
}

function keyFileFindings(id: FaultId, file: KeyFile | undefined, uid: number): Finding[] {
  if (file === undefined) return [];
  const { path, mode } = file;
  if ((mode & OTHERS) !== 0)
    return [
      fault(
        id,
        'bad',
        `others can read the key file ${path} (mode ${mode.toString(8)})`,
        `chmod 600 ${path}, and have the node activated anew if somebody may have read it`,
      ),
    ];
  if (file.uid !== uid)
    return [fault(id, 'bad', `${path} belongs to user ${file.uid}`, `chown ${uid} ${path}`)];
  return [ok(id, `${path} is for its owner only`)];
}
