/** A dpkg of its own below a directory: installs packages there, and nothing of this machine changes. */
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

export interface DpkgOutcome {
  readonly status: number;
  readonly output: string;
}

export class DebianRoot {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /**
   * Makes one.
   * @param present packages of this machine that count as installed there
   */
  static async create(directory: string, present: readonly string[]): Promise<DebianRoot> {
    for (const path of ['info', 'updates', 'triggers']) {
      await mkdir(join(directory, 'var/lib/dpkg', path), { recursive: true });
    }
    const known = await readFile('/var/lib/dpkg/status', 'utf8');
    const entries = known.split('\n\n').filter((entry) => {
      return present.some((name) => entry.startsWith(`Package: ${name}\n`));
    });
    // Alone, so that dpkg does not look for what these depend on.
    const alone = entries.map((entry) =>
      entry.replaceAll(/^(?:Pre-Depends|Depends|Conffiles):.*\n(?: .*\n)*/gm, ''),
    );
    await writeFile(join(directory, 'var/lib/dpkg/status'), alone.map((entry) => `${entry}\n\n`).join(''));
    return new DebianRoot(directory);
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Runs dpkg, with the maintainer scripts outside of a chroot: there is no shell in it. */
  async dpkg(...args: string[]): Promise<DpkgOutcome> {
    const command = [`--root=${this.directory}`, '--log=/dev/null', '--force-script-chrootless', ...args];
    try {
      const { stdout, stderr } = await promisify(execFile)('dpkg', command);
      return { status: 0, output: stdout + stderr };
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
      return { status: code, output: stdout + stderr };
    }
  }
}
