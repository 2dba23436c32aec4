/** Writes what an installation has planned. What it does is recorded before it is done. */
import { dirname, join } from 'node:path';
import { makeDirectory } from '#src/base/make-directory.ts';
import type { InstallPlan } from './install.ts';
import { type InstallationRecord, recordPath } from './installation-record.ts';
import { backUp, makeParents, recordOf, replaceFile } from './planned-file.ts';

const PRIVATE_DIRECTORY_MODE = 0o700;

/** @param earlier what an installation before has recorded */
export async function applyPlan(plan: InstallPlan, earlier: InstallationRecord | undefined): Promise<void> {
  const stateDirectory = dirname(plan.agent.paths.journalFile);
  await makeDirectory(stateDirectory, PRIVATE_DIRECTORY_MODE);
  const directories = new Set(earlier?.directories);
  const files = new Map(earlier?.files.map((file) => [file.path, file]));
  for (const file of plan.files) {
    const known = files.get(file.path);
    if (file.before === file.after && known === undefined) continue;
    for (const directory of await makeParents(file.path)) directories.add(directory);
    const backup = known === undefined ? await backUp(file) : null;
    files.set(file.path, recordOf(file, known, backup));
  }
  for (const directory of plan.directories)
    for (const made of await makeParents(join(directory, 'x'))) directories.add(made);
  const { containerd } = plan;
  const record: InstallationRecord = {
    version: 1,
    mode: plan.mode,
    runtimeClass: plan.runtimeClass ?? null,
    containerd:
      containerd === undefined
        ? null
        : {
            program: containerd.program,
            configPath: containerd.configPath,
            version: containerd.version,
            service: containerd.service ?? null,
          },
    files: [...files.values()],
    directories: [...directories],
  };
  await replaceFile(recordPath(stateDirectory), `${JSON.stringify(record, null, 2)}\n`);
  for (const { path, before, after } of plan.files) if (before !== after) await replaceFile(path, after);
}
