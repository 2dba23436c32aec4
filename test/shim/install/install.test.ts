/** What an installation does beside containerd's own configuration. */
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { install } from '../../../shim/install/install.ts';
import { ociHookFault } from '../../../shim/install/oci-hook.ts';
import { InstallationSite, installationSkipReason } from '../../fakes/installation-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const skipReason = installationSkipReason();
let site: InstallationSite;

beforeEach(() => {
  site = new InstallationSite(directory());
  // Without a root of its own, a directory would be made below that of the machine's containerd.
  site.writeOperators();
});

describe.skipIf(skipReason !== undefined)(`an installation ${skipReason ?? ''}`, () => {
  const systemd = { hasSystemd: true };

  test('with systemd writes the service and makes containerd wait for it', async () => {
    const { files, restart, next } = await install(site.request('1.6'), site.machine(systemd));
    expect(files.map((file) => file.path)).toContain(site.path('units', 'latchkey-node.service'));
    expect(readFileSync(site.path('units', 'containerd.service.d', 'latchkey.conf'), 'utf8')).toContain(
      'After=latchkey-node.service',
    );
    expect(readFileSync(site.path('units', 'latchkey-node.service'), 'utf8')).toContain(
      `ExecStart=/opt/latchkey/bin/latchkey node run --config ${site.path('etc', 'node.toml')}\n`,
    );
    expect(restart.at(-1)).toEqual(['systemctl', 'restart', 'containerd.service']);
    expect(next).toContain('systemctl enable latchkey-node.service');
    await site.takeBack({}, systemd);
    expect(site.commands).toEqual(['systemctl disable --now latchkey-node.service']);
    expect(existsSync(site.path('units'))).toBe(false);
  });

  test('leaves a service to the package that has one', async () => {
    mkdirSync(site.path('packaged'));
    writeFileSync(site.path('packaged', 'latchkey-node.service'), '[Unit]\n');
    await install(site.request('1.6'), site.machine(systemd));
    expect(readdirSync(site.path('units'))).toEqual(['containerd.service.d']);
  });

  test('keeps a service that was written by hand, and gives it back', async () => {
    mkdirSync(site.path('units'));
    writeFileSync(site.path('units', 'latchkey-node.service'), '# by hand\n');
    await install(site.request('1.6'), site.machine(systemd));
    await site.takeBack({}, systemd);
    expect(readFileSync(site.path('units', 'latchkey-node.service'), 'utf8')).toBe('# by hand\n');
  });

  test('takes the settings that are there, and refuses to set others', async () => {
    await install(site.request('1.6'), site.machine());
    const settings = `${readFileSync(site.path('etc', 'node.toml'), 'utf8')}idle_drop_seconds = 60\n`;
    writeFileSync(site.path('etc', 'node.toml'), settings);
    expect(await install(site.repeated('1.6'), site.machine())).toMatchObject({ changed: false });
    expect(readFileSync(site.path('etc', 'node.toml'), 'utf8')).toBe(settings);
    await expect(
      install(site.request('1.6', { keyServer: 'other:1' }), site.machine()),
    ).rejects.toMatchObject({
      message: expect.stringContaining('says key_server = "keys.acme.example:7443", not other:1') as string,
      hint: expect.stringContaining('--key-server') as string,
    });
    writeFileSync(site.path('etc', 'node.toml'), settings.replace('authority.pem', 'other.pem'));
    await expect(
      install(site.request('1.6', { keyServer: undefined }), site.machine()),
    ).rejects.toMatchObject({
      message: expect.stringContaining('says authority_file = ') as string,
      hint: expect.stringContaining('the option --authority out') as string,
    });
  });

  test('needs a key server and an authority the first time, and says so', async () => {
    await expect(
      install(site.request('1.6', { keyServer: undefined }), site.machine()),
    ).rejects.toMatchObject({
      code: 'USAGE_INVALID',
      hint: expect.stringContaining('--key-server') as string,
    });
    await expect(
      install(site.request('1.6', { authority: undefined }), site.machine()),
    ).rejects.toMatchObject({
      code: 'USAGE_INVALID',
      hint: expect.stringContaining('--authority') as string,
    });
    writeFileSync(site.path('vendor.pem'), 'not a certificate');
    await expect(install(site.request('1.6'), site.machine())).rejects.toMatchObject({
      code: 'INPUT_MALFORMED',
    });
    expect(existsSync(site.path('etc'))).toBe(false);
  });

  test.each([
    ['broken TOML', 'version = 2\n[plugins\n'],
    [
      'layers that are thrown away',
      'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\ndiscard_unpacked_layers = true\n',
    ],
  ])('refuses %s, and leaves everything as it was', async (_case, text) => {
    site.writeOperators(text);
    const before = site.files();
    await expect(install(site.request('1.6'), site.machine())).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
    expect(site.files()).toEqual(before);
  });

  test.each(['containerd/config.toml', 'units/latchkey-node.service'])(
    'refuses %s in another encoding, which could not be given back byte by byte',
    async (name) => {
      mkdirSync(site.path('units'));
      const comment = Buffer.from('version = 2\n# f\u00fcr\n', 'latin1');
      writeFileSync(site.path(name), comment);
      await expect(install(site.request('1.6'), site.machine(systemd))).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: `${site.path(name)} is not text in UTF-8`,
      });
      expect(readFileSync(site.path(name))).toEqual(comment);
    },
  );

  test('names a directory that stands where a file should', async () => {
    await expect(
      install(site.request('1.6', { authority: directory() }), site.machine()),
    ).rejects.toMatchObject({ message: `${directory()} is a directory` });
  });

  test('tries the change on containerd also while another does', async () => {
    const wanted = site.request('1.6', { dryRun: true });
    const before = site.files();
    const after = (ms: number) => setTimeout(ms).then(() => install(wanted, site.machine()));
    const all = await Promise.all([0, 15, 30, 45, 60].map(after));
    expect(all.every(({ changed }) => changed)).toBe(true);
    expect(site.files()).toEqual(before);
  });

  test('names the operator’s file where containerd does not take it', async () => {
    const file = site.writeOperators('version = 2\nroot = 7\n');
    const refusal = await install(site.request('1.6'), site.machine()).catch((error: unknown) => error);
    expect(String(refusal)).toContain(`does not take the configuration ${file}: `);
    expect(String(refusal)).not.toContain('latchkey-try');
  });

  test('names the runtimes that are there when containerd is not', async () => {
    const wanted = site.request('1.6', { containerd: undefined });
    const podmanOnly = site.machine({
      programs: ['podman'],
      processes: [
        { pid: 1, program: '/nowhere/containerd', args: ['--config', wanted.containerdConfig ?? ''] },
      ],
    });
    await expect(install(wanted, podmanOnly)).rejects.toMatchObject({
      message: expect.stringContaining('but podman') as string,
      hint: expect.stringContaining('--mode hook') as string,
    });
  });

  test('makes the directory in which a kubelet looks for statistics on 1.6', async () => {
    site.writeOperators();
    await install(site.request('1.6'), site.machine());
    const statistics = site.path('large-disk', 'io.containerd.snapshotter.v1.latchkey');
    expect(existsSync(statistics)).toBe(true);
    await site.takeBack();
    expect(existsSync(site.path('large-disk'))).toBe(false);
  });

  test('in the mode hook leaves containerd alone', async () => {
    const file = site.writeOperators();
    expect(await install(site.request('1.6', { mode: 'hook' }), site.machine())).toMatchObject({
      mode: 'hook',
      containerd: null,
    });
    expect(readFileSync(file, 'utf8')).toBe(site.operators);
  });

  test('in the mode hook shows the hook’s file, writes it, and takes it away again', async () => {
    const path = site.path('hooks.d', 'latchkey.json');
    const wanted = site.request('1.6', { mode: 'hook' });
    const { files } = await install({ ...wanted, dryRun: true }, site.machine());
    expect(files.find((file) => file.path === path)).toMatchObject({
      change: 'created',
      diff: expect.stringContaining(site.path('state', 'latchkey-hook')) as string,
    });
    expect(existsSync(path)).toBe(false);
    const { notes } = await install(wanted, site.machine());
    expect(notes.join('\n')).toContain(`hooks_dir = ["${site.path('hooks.d')}"]`);
    expect(ociHookFault(readFileSync(path, 'utf8'), site.path('state', 'latchkey-hook'))).toBeUndefined();
    expect(await install(site.repeated('1.6'), site.machine())).toMatchObject({ changed: false });
    // What the agent has put there since.
    writeFileSync(site.path('state', 'latchkey-hook'), '');
    const taken = await site.takeBack({ purge: true });
    expect(taken.files.find((file) => file.path === path)).toMatchObject({ change: 'removed' });
    expect(existsSync(site.path('hooks.d'))).toBe(false);
    expect(existsSync(site.path('state'))).toBe(false);
  });

  test('in the mode hook replaces a hook of that name, and gives it back', async () => {
    mkdirSync(site.path('hooks.d'));
    const path = site.path('hooks.d', 'latchkey.json');
    writeFileSync(path, '{}');
    await install(site.request('1.6', { mode: 'hook' }), site.machine());
    expect(readFileSync(path, 'utf8')).toContain('createRuntime');
    await site.takeBack();
    expect(readFileSync(path, 'utf8')).toBe('{}');
  });

  test.each([
    ['snapshotter', 'hook'],
    ['hook', 'snapshotter'],
  ] as const)('from the mode %s to %s leaves nothing behind that refuses all starts', async (from, to) => {
    const file = site.writeOperators();
    await install(site.request('1.6', { mode: from }), site.machine());
    const settings = readFileSync(site.path('etc', 'node.toml'), 'utf8').replace(/^mode = .*\n/m, '');
    writeFileSync(site.path('etc', 'node.toml'), `mode = "${to}"\n${settings}`);
    const before = site.files();
    const changed = () => install(site.request('1.6'), site.machine());
    await expect(changed()).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      hint: expect.stringContaining('node uninstall') as string,
    });
    expect(site.files()).toEqual(before);
    await site.takeBack();
    expect(await changed()).toMatchObject({ mode: to, changed: true });
    expect(readFileSync(file, 'utf8').includes('snapshotter = "latchkey"')).toBe(to === 'snapshotter');
    expect(existsSync(site.path('hooks.d', 'latchkey.json'))).toBe(to === 'hook');
  });
});
