/** A Debian package made of an executable, with dpkg-deb. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmod,
  copyFile,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import type { Architecture } from '../executable/node-binary.ts';
import {
  MAINTAINER_SCRIPTS,
  PACKAGE,
  changelogFile,
  controlFile,
  copyrightFile,
  packageFileName,
} from './control.ts';

const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;
const EXECUTABLE_MODE = 0o755;
const KIBIBYTE = 1024;

const run = promisify(execFile);

export interface PackageContents {
  readonly version: string;
  readonly license: string;
  readonly architecture: Architecture;
  readonly executable: string;
  /** Text of the agent's systemd unit, and its name. */
  readonly unit: { readonly name: string; readonly text: string };
  readonly changelog: string;
  readonly billOfMaterials: string;
  readonly licenseTexts: string;
  readonly exampleConfiguration: string;
  /** Of every file in it. */
  readonly timeSeconds: number;
  /** dpkg-deb's -Z: xz is small and slow. */
  readonly compression: 'xz' | 'none';
}

/** Writes the package into a directory and gives its path. */
export async function buildDebianPackage(contents: PackageContents, directory: string): Promise<string> {
  const { version, architecture, compression, timeSeconds } = contents;
  await mkdir(directory, { recursive: true });
  const root = await mkdtemp(join(directory, 'debian-'));
  try {
    await chmod(root, DIRECTORY_MODE);
    await writeTree(root, contents);
    await writeControl(root, contents);
    const built = `${root}.deb`;
    await run('dpkg-deb', ['--root-owner-group', `-Z${compression}`, '--build', root, built], {
      env: { ...process.env, SOURCE_DATE_EPOCH: String(timeSeconds) },
    });
    const path = join(directory, packageFileName(version, architecture));
    await rename(built, path);
    return path;
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function writeTree(root: string, contents: PackageContents): Promise<void> {
  const documentation = join('usr', 'share', 'doc', PACKAGE);
  const files: Record<string, string | Buffer> = {
    [join('usr', 'lib', 'systemd', 'system', contents.unit.name)]: contents.unit.text,
    [join(documentation, 'copyright')]: copyrightFile(contents.license),
    [join(documentation, 'changelog.gz')]: compressed(changelogFile(contents.version, contents.timeSeconds)),
    [join(documentation, 'CHANGELOG.md.gz')]: compressed(contents.changelog),
    [join(documentation, 'sbom.cdx.json.gz')]: compressed(contents.billOfMaterials),
    [join(documentation, 'third-party-licenses.gz')]: compressed(contents.licenseTexts),
    [join(documentation, 'examples', 'node.toml')]: contents.exampleConfiguration,
  };
  for (const [path, content] of Object.entries(files)) {
    await makeDirectory(root, dirname(path));
    await writeFile(join(root, path), content, { mode: FILE_MODE });
    await chmod(join(root, path), FILE_MODE);
  }
  // For the configuration, which the operator writes.
  await makeDirectory(root, join('etc', 'latchkey'));
  await makeDirectory(root, join('usr', 'bin'));
  const program = join(root, 'usr', 'bin', 'latchkey');
  await copyFile(contents.executable, program);
  await chmod(program, EXECUTABLE_MODE);
}

async function writeControl(root: string, { version, architecture }: PackageContents): Promise<void> {
  const files = await filesBelow(root);
  const sums: string[] = [];
  let totalBytes = 0;
  for (const path of files) {
    const bytes = await readFile(join(root, path));
    totalBytes += bytes.length;
    // dpkg --verify knows this one only; nothing trusts it.
    sums.push(`${createHash('md5').update(bytes).digest('hex')}  ${path}\n`);
  }
  const control: Record<string, string> = {
    control: controlFile(version, architecture, Math.ceil(totalBytes / KIBIBYTE)),
    md5sums: sums.join(''),
    ...MAINTAINER_SCRIPTS,
  };
  await makeDirectory(root, 'DEBIAN');
  for (const [name, text] of Object.entries(control)) {
    const path = join(root, 'DEBIAN', name);
    await writeFile(path, text);
    await chmod(path, name in MAINTAINER_SCRIPTS ? EXECUTABLE_MODE : FILE_MODE);
  }
}

async function filesBelow(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}

/** With the modes of a package, whatever the umask of whoever builds it. */
async function makeDirectory(root: string, path: string): Promise<void> {
  if (path === '.') return;
  await makeDirectory(root, dirname(path));
  const directory = join(root, path);
  if ((await lstat(directory).catch(() => undefined)) === undefined) await mkdir(directory);
  await chmod(directory, DIRECTORY_MODE);
}

/** zlib writes no time into it. */
function compressed(text: string): Buffer {
  return gzipSync(text, { level: 9 });
}
