/** Installed into every containerd that can be had, and taken back. */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import { CONTAINERD_VERSIONS } from '../../../lab/containerd-versions.ts';
import { defaultRuntime, effectiveFaults } from '../../../shim/install/containerd-effective.ts';
import { effectiveConfiguration } from '../../../shim/install/containerd-program.ts';
import { install } from '../../../shim/install/install.ts';
import {
  InstallationSite,
  containerdProgram,
  installationSkipReason,
} from '../../fakes/installation-site.ts';
import { describeOnContainerds } from '../../fakes/on-containerds.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
let site: InstallationSite;

beforeEach(() => {
  site = new InstallationSite(directory());
});

const everywhere = { versions: CONTAINERD_VERSIONS, skipReason: installationSkipReason() };

describeOnContainerds({ title: 'node install', ...everywhere }, (version) => {
  const gate = () => ({
    containerdVersion: `${version}.0`,
    snapshotterSocket: site.path('run', 'snapshotter.sock'),
    processor: { path: site.path('state', 'latchkey-processor'), args: [] },
    snapshotterRoot: site.path('state', 'snapshots'),
    platform: 'linux/amd64',
  });

  describe('is installed and taken back', () => {
    test('with an ordinary configuration, which keeps its comments and everything else', async () => {
      const file = site.writeOperators();
      const before = site.files();
      const result = await install(site.request(version), site.machine());
      expect(result.changed).toBe(true);
      expect(readFileSync(file, 'utf8')).toContain('" # the large disk\n');
      expect(readFileSync(`${file}.before-latchkey`, 'utf8')).toBe(site.operators);
      for (const name of [file, `${file}.before-latchkey`]) expect(statSync(name).mode & 0o777).toBe(0o640);
      const effective = await effectiveConfiguration(containerdProgram(version), file);
      expect(effectiveFaults(effective, gate())).toEqual([]);
      expect(JSON.stringify(effective)).toContain('registry.acme.example/pause:1');
      expect(JSON.stringify(effective)).toContain('"SystemdCgroup":true');

      await site.takeBack();
      expect(site.files()).toEqual(before);
    });

    test('without any configuration, in one command, and changes nothing the second time', async () => {
      // 1.6 also gets a directory below its root, which by default is the machine's own.
      if (version === '1.6') site.writeOperators(`version = 2\nroot = "${site.path('large-disk')}"\n`);
      const before = site.files();
      const first = await install(site.request(version), site.machine());
      const containerd = version === '1.6' ? 'changed' : 'created';
      expect(first.files.map(({ change }) => change)).toEqual(['created', 'created', containerd]);
      const effective = await effectiveConfiguration(
        containerdProgram(version),
        site.path('containerd', 'config.toml'),
      );
      expect(effectiveFaults(effective, gate())).toEqual([]);
      const installed = site.files();
      const second = await install(site.request(version), site.machine());
      expect(second).toMatchObject({ changed: false, restart: [] });
      expect(site.files()).toEqual(installed);

      await site.takeBack();
      expect(site.files()).toEqual(before);
    });

    test('on a dry run shows every line, and touches nothing', async () => {
      site.writeOperators();
      const before = site.files();
      const { files } = await install(site.request(version, { dryRun: true }), site.machine());
      const diff = files.map((file) => file.diff).join('');
      expect(diff).toContain('+    snapshotter = "latchkey" # set by latchkey\n');
      expect(diff).toContain('+key_server = "keys.acme.example:7443"\n');
      expect(site.files()).toEqual(before);
    });

    if (version !== '1.6') {
      test('for a runtime class where the file names no runtime, and keeps the default one', async () => {
        // As Debian ships it.
        const file = site.writeOperators(
          'version = 2\n[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "/usr/lib/cni"\n',
        );
        await install(
          site.request(version, { mode: 'runtime-class', runtimeClass: 'sealed' }),
          site.machine(),
        );
        const effective = await effectiveConfiguration(containerdProgram(version), file);
        const wanted = { ...gate(), mode: 'runtime-class' as const };
        const like = { name: 'runc', table: {} };
        expect(effectiveFaults(effective, { ...wanted, runtimeClass: { name: 'sealed', like } })).toEqual([]);
        expect(defaultRuntime(effective)).toMatchObject({
          name: 'runc',
          table: { runtime_type: 'io.containerd.runc.v2' },
        });
      });
    }

    test('for a runtime class leaves the default snapshotter, or is refused where that cannot be', async () => {
      const file = site.writeOperators();
      const wanted = site.request(version, { mode: 'runtime-class', runtimeClass: 'sealed' });
      if (version === '1.6') {
        await expect(install(wanted, site.machine())).rejects.toMatchObject({
          message: expect.stringContaining('1.6 has one snapshotter') as string,
        });
        return;
      }
      await install(wanted, site.machine());
      const effective = JSON.stringify(await effectiveConfiguration(containerdProgram(version), file));
      expect(effective).toMatch(/"sealed":\{[^}]*"snapshotter":"latchkey"/);
      expect(effective).toMatch(/"sealed":\{.*"SystemdCgroup":true/);
      expect(effective).toContain('"snapshotter":"native"');
      expect(readFileSync(site.path('etc', 'runtime-class.yaml'), 'utf8')).toContain('handler: sealed\n');
      // The name is remembered.
      expect(await install(site.request(version), site.machine())).toMatchObject({ changed: false });
      await site.takeBack();
      expect(readFileSync(file, 'utf8')).toBe(site.operators);
    });

    test('is refused where an imported file would win, and nothing is changed', async () => {
      mkdirSync(site.path('containerd'));
      const cri = version === '2' ? 'io.containerd.cri.v1.images"' : 'io.containerd.grpc.v1.cri".containerd';
      const number = version === '2' ? 3 : 2;
      writeFileSync(
        site.path('containerd', 'more.toml'),
        `version = ${number}\n[plugins."${cri}]\nsnapshotter = "native"\n`,
      );
      writeFileSync(
        site.path('containerd', 'config.toml'),
        `version = ${number}\nimports = ["${site.path('containerd', 'more.toml')}"]\n`,
      );
      const before = site.files();
      await expect(install(site.request(version), site.machine())).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        hint: expect.stringContaining('imports') as string,
      });
      expect(site.files()).toEqual(before);
    });

    test('where the file imports all of its directory, itself too, and is taken back', async () => {
      const all = `version = 2\nimports = ["${site.path('containerd')}/*.toml"]\n`;
      const file = site.writeOperators(site.operators.replace('version = 2\n', all));
      writeFileSync(site.path('containerd', 'more.toml'), 'version = 2\n[debug]\nlevel = "warn"\n');
      const before = site.files();
      await install(site.request(version), site.machine());
      const effective = await effectiveConfiguration(containerdProgram(version), file);
      expect(effectiveFaults(effective, gate())).toEqual([]);
      expect(effective['debug']).toMatchObject({ level: 'warn' });
      await site.takeBack();
      expect(site.files()).toEqual(before);
    });

    test('is refused with containerd’s own words for a file that it does not take', async () => {
      site.writeOperators(`version = 9\nroot = "/data"\n`);
      await expect(install(site.request(version), site.machine())).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
      });
      expect(readFileSync(site.path('containerd', 'config.toml'), 'utf8')).toBe(
        'version = 9\nroot = "/data"\n',
      );
    });
  });
});
