/** The processes of this machine, as the kernel lists them. */
import { readFile, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProcessFacts } from './containerd-search.ts';

/** Those of our own process namespace: a containerd inside a container is another machine's affair. */
export async function listProcesses(proc = '/proc'): Promise<ProcessFacts[]> {
  const own = await readlink(join(proc, 'self', 'ns', 'pid')).catch(() => undefined);
  const found = await Promise.all(
    (await readdir(proc)).map(async (name): Promise<ProcessFacts[]> => {
      if (!/^\d+$/.test(name)) return [];
      try {
        const directory = join(proc, name);
        const [program, commandLine, namespace, cgroup] = await Promise.all([
          readlink(join(directory, 'exe')),
          readFile(join(directory, 'cmdline'), 'utf8'),
          readlink(join(directory, 'ns', 'pid')).catch(() => own),
          readFile(join(directory, 'cgroup'), 'utf8').catch(() => ''),
        ]);
        if (namespace !== own) return [];
        // A program that was upgraded under its process.
        const path = program.replace(/ \(deleted\)$/, '');
        return [
          {
            pid: Number(name),
            program: path,
            args: commandLine.split('\0').slice(1, -1),
            service: /([^/\n]+\.service)$/m.exec(cgroup)?.[1],
          },
        ];
      } catch {
        // Kernel threads have no program, and processes end while they are listed.
        return [];
      }
    }),
  );
  return found.flat();
}
