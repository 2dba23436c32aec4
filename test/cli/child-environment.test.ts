/** What programs that the command line starts get to see of its secrets. */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');
const TOKEN = 'lkt_the-token-of-the-admin-api';

let directory: string;
/** A registry that asks for credentials. */
let registry: Server;

/** A program that fails after it has written down its environment. */
async function spy(name: string): Promise<void> {
  const path = join(directory, 'bin', name);
  await writeFile(path, `#!/bin/sh\nenv >'${join(directory, name)}'\nexit 1\n`);
  await chmod(path, 0o755);
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-children-'));
  await mkdir(join(directory, 'bin'));
  await writeFile(join(directory, 'config.json'), '{"credsStore":"spy"}');
  registry = createServer((_request, response) => {
    response.writeHead(401, { 'www-authenticate': 'Basic realm="registry"' }).end();
  });
  await new Promise<void>((resolve) => registry.listen(0, '127.0.0.1', resolve));
});
afterAll(async () => {
  await new Promise((resolve) => registry.close(resolve));
  await rm(directory, { recursive: true, force: true });
});

test.each([
  ['docker-credential-spy', ['inspect', 'docker://REGISTRY/web:1']],
  ['gpg', ['encrypt', '--recipient', 'pgp:somebody', 'oci:source:1', 'oci:out:1']],
])('%s does not get the API token', async (name, args) => {
  await spy(name);
  const { PATH = '' } = process.env;
  const host = `127.0.0.1:${(registry.address() as AddressInfo).port}`;
  const run = [LATCHKEY, ...args.map((argument) => argument.replace('REGISTRY', host))];
  const env = {
    ...process.env,
    PATH: `${join(directory, 'bin')}:${PATH}`,
    DOCKER_CONFIG: directory,
    LATCHKEY_TOKEN: TOKEN,
  };
  await new Promise((resolve) => {
    execFile(process.execPath, run, { env, cwd: directory }, resolve);
  });
  const seen = await readFile(join(directory, name), 'utf8');
  expect(seen).toContain('DOCKER_CONFIG=');
  expect(seen).not.toContain(TOKEN);
  // Code would be run from there.
  expect(seen).not.toContain('NODE_COMPILE_CACHE');
});
