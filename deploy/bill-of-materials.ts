/**
 * What an executable is made of, as a CycloneDX 1.6 document (ECMA-424). It has no time and no serial number, so that the
 * same sources give the same document.
 */
import type { BundledPackage } from './bundled-packages.ts';

export interface Materials {
  readonly version: string;
  readonly license: string;
  readonly packages: readonly BundledPackage[];
  /** The package that Node itself was taken from. */
  readonly node: BundledPackage;
  /** Libraries in Node and their versions, as in `process.versions`. */
  readonly nodeLibraries: Readonly<Record<string, string>>;
}

/** Entries of `process.versions` that are interfaces of Node, or Node, and no library in it. */
const NOT_LIBRARIES: ReadonlySet<string> = new Set(['node', 'modules', 'napi', 'unicode', 'tz', 'cldr']);

/** The document, as text. */
export function billOfMaterials(materials: Materials): string {
  const product = {
    type: 'application',
    'bom-ref': 'latchkey',
    name: 'latchkey',
    version: materials.version,
    licenses: licenses(materials.license),
  };
  const components = [...materials.packages.map(packageComponent), nodeComponent(materials)];
  const document = {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { component: product },
    components,
    dependencies: [
      { ref: product['bom-ref'], dependsOn: components.map((component) => component['bom-ref']) },
    ],
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

function packageComponent(bundled: BundledPackage) {
  const { name, version } = bundled;
  const [first = '', second] = name.split('/');
  return {
    type: 'library',
    // Two copies of one version may be bundled, each in its place.
    'bom-ref': `${purl(bundled)}#${bundled.directory}`,
    ...(second === undefined ? { name } : { group: first, name: second }),
    version,
    ...provenance(bundled),
  };
}

function nodeComponent({ node, nodeLibraries }: Materials) {
  const libraries = Object.entries(nodeLibraries)
    .filter(([name]) => !NOT_LIBRARIES.has(name))
    .sort(([left], [right]) => (left < right ? -1 : 1));
  return {
    type: 'platform',
    'bom-ref': 'node',
    name: 'node',
    version: node.version,
    cpe: `cpe:2.3:a:nodejs:node.js:${node.version}:*:*:*:lts:*:*:*`,
    ...provenance(node),
    components: libraries.map(([name, version]) => ({
      type: 'library',
      'bom-ref': `node/${name}`,
      name,
      version,
    })),
  };
}

function provenance(bundled: BundledPackage) {
  const content = Buffer.from(bundled.integrity.replace(/^sha512-/, ''), 'base64').toString('hex');
  return {
    purl: purl(bundled),
    licenses: licenses(bundled.license),
    hashes: [{ alg: 'SHA-512', content }],
  };
}

/** An expression stands alone; a single identifier has a place of its own. */
function licenses(license: string) {
  return / (?:OR|AND|WITH) /.test(license) ? [{ expression: license }] : [{ license: { id: license } }];
}

function purl({ name, version }: BundledPackage): string {
  return `pkg:npm/${name.replace('@', '%40')}@${version}`;
}
