/** podman with the start hook: a decrypted image is on its disk, but starts under a lease only. */
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { peerTool } from '../../lab/peer-tools.ts';
import { install } from '../../shim/install/install.ts';
import { CONTACT, SECRET, until } from '../e2e/gated-site.ts';
import { adminCommand } from '../fakes/admin-command.ts';
import { ProviderSite, type ToolResult, providerSkipReason } from './provider-site.ts';

const skipReason = providerSkipReason();
const PRINT = ['/bin/busybox', 'cat', '/app/one.txt'];

describe.skipIf(skipReason !== undefined)(`podman with the start hook ${skipReason ?? ''}`, () => {
  let site: ProviderSite;
  let licenseId: string;
  let hooks: string;
  let hookProgram: string;

  beforeAll(async () => {
    site = await ProviderSite.start({ mode: 'hook' });
    hookProgram = site.gated.site.agent.paths.hookProgram;
    hooks = site.at('hooks.d');
    await installHook();
    licenseId = (await site.gated.activate()).license.id;
    for (const image of [site.gated.image, site.gated.site.reference('plain')]) {
      const key = ['--decryption-key', 'provider:latchkey'];
      expect((await site.tool('grpc', 'podman', 'pull', ...key, image)).status).toBe(0);
    }
  });
  afterAll(async () => {
    await site.stop();
  });

  /** Over the settings that the site's agent runs with. */
  async function installHook(): Promise<void> {
    const request = { config: site.gated.site.agent.configPath, dryRun: false };
    const { mode, files } = await install(request, {
      ...{ processes: [], programs: ['podman'], hasSystemd: false, hooks, agentCommand: [] },
      ...{ units: '', packagedUnits: '', platform: 'linux/amd64' },
    });
    expect(mode).toBe('hook');
    expect(files.map(({ path }) => path)).toContain(join(hooks, 'latchkey.json'));
  }

  async function podman(...args: string[]): Promise<ToolResult> {
    const storage = ['--root', site.at('storage/root'), '--runroot', site.at('storage/run')];
    const command = [...storage, '--storage-driver', 'vfs', '--runtime', 'runc', ...args];
    try {
      const { stdout, stderr } = await promisify(execFile)(peerTool('podman'), command);
      return { status: 0, output: `${stdout}${stderr}` };
    } catch (error) {
      const failed = error as { code?: number; stdout?: string; stderr?: string };
      return { status: failed.code ?? 1, output: `${failed.stdout ?? ''}${failed.stderr ?? ''}` };
    }
  }

  const HARMLESS = ['--cgroup-manager', 'cgroupfs'];
  const run = (image: string, hooksDirectory = hooks, command = PRINT) =>
    podman(
      ...[...HARMLESS, '--hooks-dir', hooksDirectory, 'run', '--rm', '--network', 'none'],
      ...['--pull', 'never', image, ...command],
    );

  /** The hook as a runtime starts it, with something on its stdin. */
  async function hook(state: string): Promise<{ status: number; output: string }> {
    const [input, messages] = [site.at('state'), site.at('messages')];
    await writeFile(input, state);
    const command = ['-c', '"$1" <"$2" 2>"$3" >/dev/null', 'sh', hookProgram, input, messages];
    const status = await promisify(execFile)('sh', command).then(
      () => 0,
      (error: unknown) => (error as { code: number }).code,
    );
    return { status, output: await readFile(messages, 'utf8') };
  }

  test('the node says which mode it is in', async () => {
    expect((await site.gated.agent.status()).mode).toBe('hook');
  });

  test('with a license a preflight says that the image may run', async () => {
    const { imageDigest } = site.gated.release;
    expect(await site.gated.agent.preflight(imageDigest)).toMatchObject({ licenseId });
  });

  test('with a license the image runs', async () => {
    const { status, output } = await run(site.gated.image);
    expect(output).toContain(`${SECRET} one`);
    expect(status).toBe(0);
    const { leases } = await site.gated.agent.status();
    expect(leases.map(({ imageDigest }) => imageDigest)).toContain(site.gated.release.imageDigest);
  });

  test('a plain image runs', async () => {
    const { output } = await run(site.gated.site.reference('plain'), hooks, [
      '/bin/busybox',
      'echo',
      'hello',
    ]);
    expect(output).toContain('hello');
  });

  test.each([
    ['nothing', ''],
    ['no JSON', '{'],
    ['JSON of something else', '[]'],
    ['too much', ' '.repeat(2 * 1024 * 1024)],
    ['a path outside of any storage', JSON.stringify({ id: 'a'.repeat(64), bundle: '/etc' })],
  ])('%s on the hook’s stdin is refused in one line', async (_, state) => {
    const { status, output } = await hook(state);
    expect(status).toBe(1);
    expect(output).toMatch(/^latchkey: [A-Z_]+: [^\n]+\n$/);
  });

  test('a container that the storage does not know is refused in one line', async () => {
    const id = 'a'.repeat(64);
    const bundle = site.at(`storage/root/vfs-containers/${id}/userdata`);
    const { status, output } = await hook(JSON.stringify({ id, bundle }));
    expect(status).toBe(1);
    expect(output).toMatch(/^latchkey: STATE_NOT_FOUND: [^\n]+\n$/);
  });

  describe('after a revocation', () => {
    beforeAll(async () => {
      // An image that was built while there was a license.
      await podman(...HARMLESS, 'create', '--name', 'made', '--network', 'none', site.gated.image, 'true');
      expect((await podman('commit', 'made', 'localhost/copy')).status).toBe(0);
      await site.gated.revokeAll();
      await until(async () => {
        const { licenses } = await site.gated.agent.status();
        return licenses.every(({ state }) => state === 'DENIED_LICENSE_REVOKED');
      });
    });

    test('a preflight says that it would be refused', async () => {
      const { imageDigest } = site.gated.release;
      await expect(site.gated.agent.preflight(imageDigest)).rejects.toMatchObject({
        code: 'DENIED_LICENSE_REVOKED',
        licenseId,
      });
    });

    test('it does not start, and podman’s user is told code, license and contact', async () => {
      const { status, output } = await run(site.gated.image);
      expect(status).not.toBe(0);
      expect(output).toContain('DENIED_LICENSE_REVOKED');
      expect(output).toContain(licenseId);
      expect(output).toContain(CONTACT);
      expect(output).not.toContain(SECRET);
    });

    test('nor does a container made before, or an image built on it', async () => {
      const hooked = [...HARMLESS, '--hooks-dir', hooks];
      const again = await run('localhost/copy');
      expect(again.output).toContain('DENIED_LICENSE_REVOKED');
      await podman('rm', 'made');
      const started = await podman(
        ...hooked,
        'run',
        '--name',
        'late',
        '--network',
        'none',
        site.gated.image,
        ...PRINT,
      );
      expect(started.output).toContain('DENIED_LICENSE_REVOKED');
    });

    test('a plain image still runs', async () => {
      const plain = site.gated.site.reference('plain');
      expect((await run(plain, hooks, ['/bin/busybox', 'echo', 'hello'])).output).toContain('hello');
    });

    test('without the hook it starts, and its plaintext is on the disk: that is the limit of this mode', async () => {
      await mkdir(site.at('empty'));
      expect((await run(site.gated.image, site.at('empty'))).output).toContain(`${SECRET} one`);
    });
  });

  test('under an offline bundle that is for one start, there is one', async () => {
    const { agent, keyServer } = site.gated.site;
    const { license } = await site.gated.license();
    const onNode = ['--socket', agent.paths.agentSocket];
    const [request, bundle] = [site.at('request'), site.at('bundle')];
    await adminCommand(keyServer, 'node', 'request', '-o', request, ...onNode);
    const terms = ['--max-starts', '1', '-o', bundle];
    await adminCommand(keyServer, 'license', 'check-out', license.id, request, ...terms);
    await keyServer.stop();
    await adminCommand(keyServer, 'node', 'import', bundle, ...onNode);
    expect((await run(site.gated.image)).output).toContain(`${SECRET} one`);
    const { status, output } = await run(site.gated.image);
    expect(status).not.toBe(0);
    expect(output).toContain('DENIED_OFFLINE_STARTS');
    expect((await run(site.gated.site.reference('plain'), hooks, ['/bin/busybox', 'true'])).status).toBe(0);
  });

  test('while the agent is away nothing starts where the hook is, and the message says what to do', async () => {
    await site.gated.site.agent.stop();
    const plain = site.gated.site.reference('plain');
    const { status, output } = await run(plain, hooks, ['/bin/busybox', 'echo', 'hello']);
    expect(status).not.toBe(0);
    expect(output).toContain('latchkey node run');
    await site.gated.site.agent.start();
  });
});
