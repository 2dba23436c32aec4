/** The bill of materials against what is really bundled, and against npm's own. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { bundledPackages } from '../../deploy/bundled-packages.ts';
import { billOfMaterials } from '../../deploy/bill-of-materials.ts';
import { distributionMaterials } from '../../deploy/distribution.ts';
import { type ExecutableBundle, bundleExecutable } from '../../deploy/executable/bundle.ts';
import { licenseTexts } from '../../deploy/license-texts.ts';

const ROOT = join(import.meta.dirname, '..', '..');

interface Component {
  readonly name: string;
  readonly group?: string;
  readonly version: string;
  readonly purl?: string;
  readonly licenses?: readonly unknown[];
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
  readonly components?: readonly Component[];
}

function componentsOf(document: string): readonly Component[] {
  return (JSON.parse(document) as { components: Component[] }).components;
}

describe('the bill of materials of the executable', () => {
  let bundle: ExecutableBundle;
  beforeAll(async () => {
    bundle = await bundleExecutable();
  });

  test('names every package that has a file in it, with the version that lies in node_modules', async () => {
    const materials = await distributionMaterials(bundle);
    const components = componentsOf(billOfMaterials(materials));
    const named = new Set(components.map(({ group, name, version }) => `${group ?? ''}/${name}@${version}`));
    const directories = new Set(
      bundle.inputs
        .filter((path) => path.includes('node_modules/'))
        .map((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? ''),
    );
    expect(directories.size).toBeGreaterThan(50);
    for (const directory of directories) {
      const manifest = JSON.parse(await readFile(join(ROOT, directory, 'package.json'), 'utf8')) as Component;
      const [first = '', second] = manifest.name.split('/');
      const name = second === undefined ? `/${first}` : `${first}/${second}`;
      expect(named).toContain(`${name}@${manifest.version}`);
    }
    expect(components).toHaveLength(directories.size + 1);
    const texts = await licenseTexts(ROOT, materials.packages);
    for (const { name, version } of materials.packages) expect(texts).toContain(`${name} ${version} (`);
  });

  test('is the same from two builds', async () => {
    const one = billOfMaterials(await distributionMaterials(bundle));
    const other = billOfMaterials(await distributionMaterials(await bundleExecutable()));
    expect(one).toBe(other);
  });

  test('gives license, package URL and hash as npm does', async () => {
    const npm = await promisify(execFile)('npm', ['sbom', '--sbom-format=cyclonedx', '--package-lock-only'], {
      cwd: ROOT,
      maxBuffer: 64 * 1024 * 1024,
    });
    const theirs = new Map(componentsOf(npm.stdout).map((component) => [component.purl, component]));
    const ours = componentsOf(billOfMaterials(await distributionMaterials(bundle)));
    for (const { purl, hashes, licenses } of ours) {
      const their = theirs.get(purl);
      expect({ purl, hashes }).toEqual({ purl, hashes: their?.hashes });
      // npm drops the "or later" of a license.
      const license = JSON.stringify(licenses).replace('+"', '"');
      expect({ purl, license }).toEqual({ purl, license: JSON.stringify(their?.licenses) });
    }
  });

  test('names Node and the libraries in it', async () => {
    const { node, nodeLibraries } = await distributionMaterials(bundle);
    expect(`v${node.version}`).toBe(process.version);
    const document = billOfMaterials({ version: '1.0.0', license: 'MIT', packages: [], node, nodeLibraries });
    const [component] = componentsOf(document);
    expect(component).toMatchObject({ name: 'node', version: node.version });
    const openssl = { name: 'openssl', version: process.versions.openssl };
    expect(component?.components).toContainEqual(expect.objectContaining(openssl));
    expect(component?.components?.map(({ name }) => name)).not.toContain('modules');
  });
});

describe('the packages of a bundle', () => {
  const entry = { version: '1.0.0', license: 'MIT', integrity: 'sha512-AAAA' };

  test('are known by the last node_modules in a path, with their scope', () => {
    const lock = {
      packages: {
        'node_modules/@a/b': entry,
        'node_modules/c/node_modules/d': { ...entry, version: '2.0.0' },
      },
    };
    const inputs = [
      ...['src/own.ts', 'node_modules/c/node_modules/d/lib/x.js', 'node_modules/@a/b/index.js'],
      ...['node_modules/@a/b/other.js', '(disabled):node:fs'],
    ];
    expect(bundledPackages(inputs, lock).map(({ name, version }) => `${name}@${version}`)).toEqual([
      '@a/b@1.0.0',
      'd@2.0.0',
    ]);
  });

  test.each(['version', 'license', 'integrity'])(
    'that the lock file has no %s of stop the build',
    (field) => {
      const lock = { packages: { 'node_modules/c': { ...entry, [field]: undefined } } };
      expect(() => bundledPackages(['node_modules/c/x.js'], lock)).toThrow('node_modules/c');
    },
  );
});
