/** What is handed out, as who has been given it looks at it: with sha256sum, dpkg-deb and gunzip. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { beforeAll, expect, test } from 'vitest';
import { VERSION } from '#src/base/installation.ts';
import { packageFileName } from '../../deploy/debian/control.ts';
import { builtDistribution } from '../../lab/distribution.ts';

const HOST = process.arch === 'arm64' ? 'arm64' : 'x64';
/** Of the build itself. */
const NOT_HANDED_OUT = ['SHA256SUMS', 'distribution.stamp', 'lock'];
const SBOM = './usr/share/doc/latchkey-node/sbom.cdx.json.gz';
const MAX_FILE_BYTES = 256 * 1024 * 1024;
const needsDpkg = existsSync('/usr/bin/dpkg-deb') ? undefined : 'needs dpkg';

let built: string;

beforeAll(async () => {
  built = await builtDistribution(HOST);
});

test('SHA256SUMS names every file that is handed out, and sha256sum finds them so', async () => {
  const checked = execFileSync('sha256sum', ['--check', '--strict', 'SHA256SUMS'], {
    cwd: built,
    encoding: 'utf8',
  });
  const handedOut = (await readdir(built)).filter((name) => !NOT_HANDED_OUT.includes(name));
  expect(checked.trim().split('\n').sort()).toEqual(handedOut.map((name) => `${name}: OK`).sort());
});

test.skipIf(needsDpkg !== undefined)(
  `the Debian package holds the bill of materials ${needsDpkg ?? ''}`,
  async () => {
    const archive = execFileSync(
      'sh',
      ['-c', 'dpkg-deb --fsys-tarfile "$1" | tar --extract --to-stdout "$2"', 'sh', packagePath(), SBOM],
      { maxBuffer: MAX_FILE_BYTES },
    );
    const bill = gunzipSync(archive).toString();
    expect(bill).toBe(await readFile(join(built, 'latchkey.cdx.json'), 'utf8'));
    expect(JSON.parse(bill)).toMatchObject({ bomFormat: 'CycloneDX' });
  },
);

function packagePath(): string {
  return join(built, packageFileName(VERSION, HOST));
}
