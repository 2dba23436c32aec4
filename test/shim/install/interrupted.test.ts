/** An installation, or taking it back, that came to an end in the middle: the same command finishes it. */
import { mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
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
});
