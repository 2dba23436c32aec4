/** An installation, or taking it back, that came to an end in the middle: the same command finishes it. */
import { existsSync, mkdirSync, readFileSync, rmSync, rmdirSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { install } from '../../../shim/install/install.ts';
import { InstallationSite, installationSkipReason } from '../../fakes/installation-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const skipReason = installationSkipReason();
let site: InstallationSite;

beforeEach(() => {
  site = new InstallationSite(directory());
  site.writeOperators();
});

describe.skipIf(skipReason !== undefined)(`interrupted ${skipReason ?? ''}`, () => {
  const systemd = { hasSystemd: true };

  test('in the middle of taking it back, what is left is found by the settings, and taken back', async () => {
    const before = site.files();
    const file = site.path('containerd', 'config.toml');
    await install(site.request('1.6'), site.machine());
    // Stands where the new file is written first.
    mkdirSync(`${file}.latchkey-new`);
    await expect(site.takeBack()).rejects.toBeInstanceOf(Error);
    expect(readFileSync(file, 'utf8')).toContain('latchkey');
    rmdirSync(`${file}.latchkey-new`);
    await site.takeBack();
    expect(site.files()).toEqual(before);
  });

  test.each(['before', 'after'])('%s the service is written, it is taken back all the same', async (when) => {
    const before = site.files();
    await install(site.request('1.6'), site.machine(systemd));
    if (when === 'before') rmSync(site.path('units', 'latchkey-node.service'));
    const hasService = () => existsSync(site.path('units', 'latchkey-node.service'));
    // As systemctl does.
    const run = (_program: string, [verb = '']: readonly string[]) =>
      verb === 'disable' && !hasService()
        ? Promise.reject(new LatchkeyError('STATE_PRECONDITION', 'Unit file does not exist.'))
        : Promise.resolve();
    await site.takeBack({}, systemd, '', run);
    expect(site.files()).toEqual(before);
  });
});
