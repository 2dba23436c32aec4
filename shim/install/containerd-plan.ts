/** The change to containerd's configuration, tried on the containerd that is to read it before anything is written. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { LatchkeyError } from '#src/base/errors.ts';
import { type GateConfiguration, gateChanges } from './containerd-config.ts';
import { defaultRuntime, effectiveFaults, foreignChanges, hasCri } from './containerd-effective.ts';
import { effectiveConfiguration } from './containerd-program.ts';
import { type PlannedFile, readForChange } from './planned-file.ts';
import type { TomlTable } from './toml-change.ts';
import { parseToml, withChanges, withoutChanges } from './toml-text.ts';
import { trialText } from './trial-text.ts';

/** More would only repeat themselves. */
const SHOWN_PATHS = 3;

export interface ContainerdPlan {
  readonly file: PlannedFile;
  /** As containerd reads it with the change. */
  readonly effective: TomlTable;
  readonly hasCri: boolean;
}

/**
 * @param program containerd's own
 * @param gate what to set; for a runtime class the runtime that it is like is found here
 * @throws LatchkeyError CONFIG_INVALID when the file cannot be changed so that containerd is gated and all else stays
 */
export async function planContainerd(
  program: string,
  configPath: string,
  gate: GateConfiguration & { readonly runtimeClassName?: string | undefined },
): Promise<ContainerdPlan> {
  const before = await readForChange(configPath);
  const original = withoutChanges(before ?? '');
  const document = parseToml(original, configPath);
  const effectiveBefore = await tried(program, configPath, original);
  const { runtimeClassName: name } = gate;
  const complete =
    name === undefined ? gate : { ...gate, runtimeClass: { name, like: defaultRuntime(effectiveBefore) } };
  const after = withChanges(original, gateChanges(document, complete), configPath);
  const effective = await tried(program, configPath, after);
  const [fault] = effectiveFaults(effective, complete);
  if (fault !== undefined) {
    throw new LatchkeyError('CONFIG_INVALID', `with Latchkey in ${configPath} still ${fault.detail}`, {
      hint: 'look for the same table in the files that it imports, or in an older syntax, and set it there; nothing was changed',
    });
  }
  // A file without a version says something else once it has one; one that says nothing has nothing to lose.
  const foreign = Object.keys(document).length === 0 ? [] : foreignChanges(effectiveBefore, effective, name);
  if (foreign.length > 0) {
    const shown = foreign.slice(0, SHOWN_PATHS).join(', ');
    throw new LatchkeyError('CONFIG_INVALID', `adding Latchkey to ${configPath} would also change ${shown}`, {
      hint: "bring the file to containerd's newest syntax first, see 'containerd config migrate'; nothing was changed",
    });
  }
  return { file: { path: configPath, kind: 'edited', before, after }, effective, hasCri: hasCri(effective) };
}

/**
 * Beside the file itself where that can be, since what it imports may be named from there; under a name of its own, since
 * another installation may try something else at the same time.
 */
async function tried(program: string, configPath: string, planned: string): Promise<TomlTable> {
  const text = await trialText(planned, configPath);
  const beside = `${configPath}.latchkey-try-${randomBytes(4).toString('hex')}`;
  try {
    await writeFile(beside, text, { mode: 0o600 });
    return await effectiveConfiguration(program, beside, configPath);
  } catch (error) {
    if (error instanceof LatchkeyError) throw error;
    const directory = await mkdtemp(join(tmpdir(), 'latchkey-try-'));
    try {
      const path = join(directory, 'config.toml');
      await writeFile(path, text, { mode: 0o600 });
      return await effectiveConfiguration(program, path, configPath);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  } finally {
    await rm(beside, { force: true });
  }
}

/** The directory in which containerd 1.6 looks for a proxy snapshotter's files when a kubelet asks for statistics. */
export function statisticsDirectory(effective: TomlTable, snapshotterName: string): string {
  const root = typeof effective['root'] === 'string' ? effective['root'] : '/var/lib/containerd';
  return join(root, `io.containerd.snapshotter.v1.${snapshotterName}`);
}

/** The socket that containerd is set to. */
export function grpcAddress(effective: TomlTable): string | undefined {
  const grpc = effective['grpc'] as TomlTable | undefined;
  return typeof grpc?.['address'] === 'string' ? grpc['address'] : undefined;
}

/** Directory of a configuration, for files beside it. */
export function besides(path: string, name: string): string {
  return join(dirname(path), name);
}
