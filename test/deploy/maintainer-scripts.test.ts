/** What the Debian package says when it goes. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { MAINTAINER_SCRIPTS } from '../../deploy/debian/control.ts';
import { runProgram } from '../fakes/command-line.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const directory = temporaryDirectory();

test.each([
  ['a containerd that is set up', 'etc/containerd/config.toml', '[proxy_plugins.latchkey]\n', true],
  ['an installation elsewhere, or for podman', 'var/lib/latchkey/node/installation.json', '{}', true],
  ['a containerd of its own', 'etc/containerd/config.toml', 'version = 2\n', false],
])('before a removal warns of %s', async (_case, name, text, warns) => {
  const path = join(directory(), name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
  const place = { directory: directory(), env: { DPKG_ROOT: directory() } };
  const script = MAINTAINER_SCRIPTS['prerm'] ?? '';
  const removal = await runProgram('sh', ['-c', script, 'prerm', 'remove'], place);
  expect(removal).toMatchObject({ status: 0, stderr: '' });
  expect(removal.stdout.includes("'latchkey node uninstall' comes before the removal")).toBe(warns);
  expect(await runProgram('sh', ['-c', script, 'prerm', 'upgrade'], place)).toMatchObject({ stdout: '' });
});
