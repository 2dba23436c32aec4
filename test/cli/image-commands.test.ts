/** The image commands as processes: what a person sees, what a script gets, what is left on disk. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { dockerRegistrySkipReason, startDockerRegistry } from '../../lab/docker-registry.ts';
import { startFakeRegistry } from '../fakes/registry.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const LATCHKEY = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');
const skipReason = dockerRegistrySkipReason();

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

let directory: string;
const at = (name: string) => join(directory, name);

function run(program: string, args: readonly string[]): Promise<Outcome> {
  const env = { ...process.env, XDG_CACHE_HOME: at('cache'), LATCHKEY_TOKEN: 'token' };
  return new Promise((resolve) => {
    execFile(program, args, { env, cwd: directory }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

const latchkey = (...args: string[]) => run(process.execPath, [LATCHKEY, ...args]);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-cli-'));
  const layers = [await realLayer(MEDIA_TYPE.ociLayerGzip), await realLayer(MEDIA_TYPE.ociLayerGzip)];
  await storeRealImage(openLayout(at('source')), layers, { tag: 'v1' });
  await latchkey('keygen', 'key');
  await latchkey('keygen', 'other');
  await writeFile(at('noise.pem'), 'noise');
});

afterAll(() => rm(directory, { recursive: true, force: true }));

describe('latchkey', () => {
  test('works through a symbolic link, and shows help and version', async () => {
    await symlink(LATCHKEY, at('latchkey'));
    expect(await run(process.execPath, [at('latchkey'), '--version'])).toMatchObject({ status: 0 });
    const help = await latchkey('--help');
    expect(help.status).toBe(0);
    expect(help.stdout).toContain('encrypt');
  });

  test.each(['encrypt', 'decrypt', 'inspect', 'keygen'])('%s --help has an example', async (verb) => {
    const { status, stdout } = await latchkey(verb, '--help');
    expect(status).toBe(0);
    expect(stdout).toMatch(new RegExp(`Examples?:\\n +latchkey ${verb} `));
    expect(stdout).toContain('--json');
  });

  test('ends quietly when the reader of its output has gone', async () => {
    const outcome = await run('sh', ['-c', `'${process.execPath}' '${LATCHKEY}' --help | true`]);
    expect(outcome).toMatchObject({ status: 0, stderr: '' });
  });
});

describe('wrong input gives one clear line and the right status', () => {
  const recipient = ['--recipient', 'jwe:key.pub.pem'];
  const encrypt = ['encrypt', 'oci:source:v1', 'oci:out:v1'];
  test.each<[number, RegExp, string[]]>([
    [2, /unknown command 'encript'/, ['encript']],
    [2, /unknown option '--bogus'/, ['inspect', 'x', '--bogus']],
    [2, /missing required argument 'image'/, ['inspect']],
    [2, /nobody could decrypt/, encrypt],
    [2, /exclude each other/, [...encrypt, ...recipient, '--layer', '0', '--all-layers']],
    [2, /there is no layer 7/, [...encrypt, ...recipient, '--layer', '7']],
    [2, /not a layer number/, [...encrypt, ...recipient, '--layer', 'top']],
    [2, /no layer is left/, [...encrypt, ...recipient, '--base', 'oci:source:v1']],
    [2, /not a recipient/, [...encrypt, '--recipient', 'key.pub.pem']],
    [66, /no key file missing\.pem/, [...encrypt, '--recipient', 'jwe:missing.pem']],
    [65, /noise\.pem is not a public key/, [...encrypt, '--recipient', 'jwe:noise.pem']],
    [65, /private key where a public/, [...encrypt, '--recipient', 'jwe:key.pem']],
    [66, /no tag "v9"/, ['encrypt', 'oci:source:v9', 'oci:out:v1', ...recipient]],
    [66, /does not exist/, ['encrypt', 'oci:nowhere:v1', 'oci:out:v1', ...recipient]],
    [66, /docker-archive:x does not exist/, ['encrypt', 'docker-archive:x', 'oci:out:v1', ...recipient]],
    [2, /not supported/, ['encrypt', 'docker-daemon:x', 'oci:out:v1', ...recipient]],
    [2, /cannot be written/, ['encrypt', 'oci:source:v1', `oci:out@sha256:${'0'.repeat(64)}`, ...recipient]],
    [69, /does not answer/, [...encrypt, '--product', 'p', '--server', 'http://127.0.0.1:9']],
    [2, /a key is needed/, ['decrypt', 'oci:source:v1', 'oci:out:v1']],
    [65, /no encrypted layer/, ['decrypt', 'oci:source:v1', 'oci:out:v1', '--key', 'key.pem']],
    [65, /public key where the private/, ['decrypt', 'oci:source:v1', 'oci:out:v1', '--key', 'key.pub.pem']],
    [2, /not to a registry/, ['decrypt', 'oci:source:v1', 'localhost:9/x', '--key', 'key.pem']],
    [65, /exists already/, ['keygen', 'key']],
    [2, /not a key type/, ['keygen', 'new', '--type', 'dsa']],
    [66, /no such file or directory: nowhere\/new\.pem/, ['keygen', 'nowhere/new']],
  ])('%i %s', async (status, message, args) => {
    const outcome = await latchkey(...args);
    expect(outcome.stderr).toMatch(message);
    expect(outcome.stderr).toMatch(/^latchkey: [A-Z_]+: [^\n]+[^.]; [^\n]+\n$/);
    expect(outcome).toMatchObject({ status, stdout: '' });
    expect(existsSync(at('out/index.json'))).toBe(false);
    expect(existsSync(at('new.pem'))).toBe(false);
  });

  test('with --json also as an object on stdout', async () => {
    const outcome = await latchkey('inspect', 'oci:nowhere', '--json');
    expect(JSON.parse(outcome.stdout)).toMatchObject({ error: { code: 'STATE_NOT_FOUND' } });
    expect(outcome.status).toBe(66);
  });
});

describe('the image commands', () => {
  test('make a private key that only its owner can read', async () => {
    expect((await stat(at('key.pem'))).mode & 0o777).toBe(0o600);
    expect(await readFile(at('key.pub.pem'), 'utf8')).toContain('PUBLIC KEY');
  });

  test('show a plan and change nothing on --dry-run', async () => {
    const args = [
      'encrypt',
      'oci:source:v1',
      'oci:dry:v1',
      '--recipient',
      'jwe:key.pub.pem',
      '--layer',
      '-1',
    ];
    const { status, stdout } = await latchkey(...args, '--dry-run', '--json');
    expect(status).toBe(0);
    const plan = JSON.parse(stdout) as { platforms: { layers: { encrypted: boolean }[] }[] };
    expect(plan.platforms[0]?.layers.map((layer) => layer.encrypted)).toEqual([false, true]);
    expect(existsSync(at('dry'))).toBe(false);
  });

  test('encrypt, inspect and decrypt', async () => {
    const encrypt = [
      'encrypt',
      'oci:source:v1',
      'oci:enc:v1',
      '--recipient',
      'jwe:key.pub.pem',
      '--layer',
      '1',
    ];
    const encrypted = await latchkey(...encrypt, '--json');
    expect(encrypted).toMatchObject({ status: 0, stderr: '' });
    const shown = await latchkey('inspect', 'oci:enc:v1');
    expect(shown.stdout).toMatch(/ 0 .* plain .*\n.* 1 .* encrypted .*\n.* for jwe\n/);
    expect(shown.stdout).toContain('GREETING=visible');
    const wrong = await latchkey('decrypt', 'oci:enc:v1', 'oci:dec:v1', '--key', 'other.pem');
    expect(wrong).toMatchObject({ status: 77 });
    expect(existsSync(at('dec/index.json'))).toBe(false);
    const right = await latchkey('decrypt', 'oci:enc:v1', 'oci:dec:v1', '--key', 'key.pem', '--json');
    expect(right).toMatchObject({ status: 0, stderr: '' });
  });
});

describe.skipIf(skipReason !== undefined)(`with a registry (${skipReason ?? 'docker-registry'})`, () => {
  test('encrypt pushes, and decrypt pulls', async () => {
    const registry = await startDockerRegistry();
    try {
      const image = `docker://${registry.host}/acme/web:2.0`;
      const pushed = await latchkey('encrypt', 'oci:source:v1', image, '--recipient', 'jwe:key.pub.pem');
      expect(pushed.status).toBe(0);
      expect(existsSync(at('cache/latchkey/push'))).toBe(true);
      const pulled = await latchkey('decrypt', image, 'oci:pulled:v1', '--key', 'key.pem');
      expect(pulled.status).toBe(0);
    } finally {
      await registry.stop();
    }
  });
});

test('a registry that goes down in the middle of a push keeps the ciphertext for the rerun', async () => {
  const registry = await startFakeRegistry();
  let isDown = false;
  registry.misbehaviours.push((request, response) => {
    // The first blob arrives, then the machine is gone.
    isDown ||= request.method === 'PUT' && registry.blobs.size > 0;
    if (isDown) response.destroy();
    return isDown;
  });
  try {
    const image = `docker://${registry.host}/acme/web:3.0`;
    const args = ['encrypt', 'oci:source:v1', image, '--recipient', 'jwe:key.pub.pem'];
    const failed = await latchkey(...args);
    expect(failed.status).toBe(69);
    expect(failed.stderr).toMatch(/latchkey: NET_[^\n]+\n$/);
    expect(registry.manifests.size).toBe(0);
    const arrived = [...registry.blobs.keys()];
    expect(arrived.length).toBeGreaterThan(0);
    registry.misbehaviours.length = 0;
    const uploadsBefore = registry.requests.length;
    const resumed = await latchkey(...args, '--json');
    expect(resumed.status).toBe(0);
    expect(JSON.parse(resumed.stdout)).toMatchObject({ resumed: true });
    expect(registry.manifests.has('acme/web@3.0')).toBe(true);
    // Only what was missing is sent again.
    const sent = registry.requests.slice(uploadsBefore).filter((request) => request.method === 'POST');
    expect(sent).toHaveLength(registry.blobs.size - arrived.length);
  } finally {
    await registry.stop();
  }
});
