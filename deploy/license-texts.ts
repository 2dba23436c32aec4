/** The license texts that have to go with what an executable contains. */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { BundledPackage } from './bundled-packages.ts';

const LICENSE_FILE = /^(?:licen[cs]e|copying|notice)/i;
const RULE = '-'.repeat(80);

/** One text: for each package its name, version and license, and the files in which it says so. */
export async function licenseTexts(root: string, packages: readonly BundledPackage[]): Promise<string> {
  const parts: string[] = [];
  for (const { name, version, license, directory } of packages) {
    const files = (await readdir(join(root, directory))).filter((file) => LICENSE_FILE.test(file)).sort();
    const texts = await Promise.all(files.map((file) => readFile(join(root, directory, file), 'utf8')));
    parts.push(
      [RULE, `${name} ${version} (${license})`, RULE, ...texts.map((text) => text.trim())].join('\n\n'),
    );
  }
  return `${parts.join('\n\n')}\n`;
}
