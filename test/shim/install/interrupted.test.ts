/** An installation, or taking it back, that came to an end in the middle: the same command finishes it. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, rmdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { install } from '../../../shim/install/install.ts';
import { replaceFile } from '../../../shim/install/planned-file.ts';
import { LATCHKEY, runProgram } from '../../fakes/command-line.ts';
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

  test('before the agent was started, says the second time what is left, until the agent answers', async () => {
    const { restart, next } = await install(site.request('1.6'), site.machine(systemd));
    const second = () => install(site.request('1.6'), site.machine(systemd));
    expect(await second()).toMatchObject({ changed: false, restart, next });
    mkdirSync(site.path('run'));
    const agent = createServer().listen(site.path('run', 'agent.sock'));
    await once(agent, 'listening');
    expect(await second()).toMatchObject({ changed: false, restart: [] });
    agent.close();
  });

  test('before the node was activated, a second one activates it', async () => {
    const { containerd = '', containerdConfig = '' } = site.request('1.6');
    const paths = ['--containerd', containerd, '--containerd-config', containerdConfig];
    const settings = ['--state-directory', site.path('state'), '--runtime-directory', site.path('run')];
    const vendor = ['--key-server', 'keys.acme.example:7443', '--authority', site.path('vendor.pem')];
    await install(site.request('1.6'), site.machine());
    const key = site.path('key');
    writeFileSync(key, 'LK-000000\n');
    const command = ['node', 'install', '--config', site.path('etc', 'node.toml'), ...vendor, ...paths];
    const script = 'key=$1; shift; exec "$@" < "$key"';
    const { status, stderr } = await runProgram(
      'sh',
      [
        '-c',
        script,
        'sh',
        key,
        process.execPath,
        LATCHKEY,
        ...command,
        ...settings,
        '--restart',
        '--license-key',
        '-',
      ],
      { directory: directory() },
    );
    // Nobody runs here whom it could ask; it is no success.
    expect(stderr).toContain(`does not answer at ${site.path('run', 'agent.sock')}`);
    expect(status).toBe(69);
  });

  test('where a file cannot be put in place, nothing is left beside it', async () => {
    const place = site.path('place');
    mkdirSync(place);
    await expect(replaceFile(place, 'text')).rejects.toBeInstanceOf(Error);
    expect(existsSync(`${place}.latchkey-new`)).toBe(false);
  });

  test('where a file is a mount of its own, it is named, and the second time all is well', async () => {
    const file = site.writeOperators();
    execFileSync('mount', ['--bind', file, file]);
    try {
      await expect(install(site.request('1.6'), site.machine())).rejects.toMatchObject({
        code: 'STORAGE_FAILED',
        message: `${file} cannot be replaced: it is a mount of its own`,
      });
    } finally {
      execFileSync('umount', [file]);
    }
    expect(readFileSync(file, 'utf8')).toBe(site.operators);
    expect(existsSync(`${file}.latchkey-new`)).toBe(false);
    await install(site.request('1.6'), site.machine());
    expect(readFileSync(file, 'utf8')).toContain('# set by latchkey');
  });
});
