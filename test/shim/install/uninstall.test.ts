/** Taking an installation back. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import { parse, stringify } from 'smol-toml';
import { install } from '../../../shim/install/install.ts';
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

describe.skipIf(skipReason !== undefined)(`taking it back ${skipReason ?? ''}`, () => {
  test('is refused when somebody has changed a file since, and then takes out only what is ours', async () => {
    const file = site.writeOperators();
    await install(site.request('1.6'), site.machine());
    writeFileSync(file, `${readFileSync(file, 'utf8')}# a colleague\n`);
    await expect(site.takeBack()).rejects.toMatchObject({
      code: 'STATE_CONFLICT',
      message: expect.stringContaining(file) as string,
      hint: expect.stringContaining('--force') as string,
    });
    const { files } = await site.takeBack({ force: true });
    expect(files.find((entry) => entry.path === file)).toMatchObject({ change: 'ours-removed' });
    expect(readFileSync(file, 'utf8')).toBe(`${site.operators}# a colleague\n`);
    // Only there is what the file was at first.
    expect(readFileSync(`${file}.before-latchkey`, 'utf8')).toBe(site.operators);
  });

  test.each<[string, (text: string) => string, string]>([
    ['by a program that keeps no comments', (text) => stringify(parse(text)), 'still names'],
    [
      'so that a line of ours became another’s',
      (text) => text.replace('"latchkey" # set by latchkey', '"overlayfs"'),
      'not valid any more',
    ],
    [
      'so that the block has no end',
      (text) => `${text.replace('# end latchkey', '')}# mine\n`,
      'still names',
    ],
  ])('says what is left to do by hand where a file was rewritten %s', async (_case, rewrite, why) => {
    const file = site.writeOperators();
    await install(site.request('1.6'), site.machine());
    writeFileSync(file, rewrite(readFileSync(file, 'utf8')));
    const before = site.files();
    await expect(site.takeBack({ force: true })).rejects.toMatchObject({
      code: 'STATE_CONFLICT',
      message: expect.stringContaining(why) as string,
      hint: expect.stringContaining(`${file}.before-latchkey`) as string,
    });
    expect(site.files()).toEqual(before);
    writeFileSync(file, readFileSync(`${file}.before-latchkey`));
    await site.takeBack();
    expect(readFileSync(file, 'utf8')).toBe(site.operators);
    expect(existsSync(site.path('state'))).toBe(false);
  });

  test('does not take a rewritten file for the operator’s because it was installed over', async () => {
    const file = site.writeOperators();
    await install(site.request('1.6'), site.machine());
    writeFileSync(file, stringify(parse(readFileSync(file, 'utf8'))));
    await install(site.request('1.6'), site.machine());
    await expect(site.takeBack()).rejects.toMatchObject({ code: 'STATE_CONFLICT' });
  });

  test('is refused while containers of encrypted images run, and names them', async () => {
    await install(site.request('1.6'), site.machine());
    const mount = (store: string, id: string) =>
      `overlay /run/containerd/io.containerd.runtime.v2.task/k8s.io/${id}/rootfs overlay rw,lowerdir=${site.path('state', 'snapshots')}/1/fs,upperdir=${site.path('state', store)}/2/fs 0 0`;
    const mounts = [mount('plaintext', 'secret'), mount('snapshots', 'plain')].join('\n');
    await expect(site.takeBack({}, {}, mounts)).rejects.toMatchObject({
      code: 'STATE_PRECONDITION',
      message: '1 containers of encrypted images run: k8s.io/secret',
      hint: expect.stringContaining('drain') as string,
    });
    await expect(site.takeBack({ purge: true }, {}, mount('snapshots', 'plain'))).rejects.toMatchObject({
      message: expect.stringContaining('k8s.io/plain') as string,
    });
    const { notes } = await site.takeBack({}, {}, mount('snapshots', 'plain'));
    expect(notes[0]).toContain('1 plain containers');
  });

  test('leaves none of the sockets of an agent that has ended', async () => {
    await install(site.request('1.6'), site.machine());
    mkdirSync(site.path('run'));
    for (const name of ['agent', 'snapshotter', 'processor', 'hook', 'metrics'])
      writeFileSync(site.path('run', `${name}.sock`), '');
    await site.takeBack();
    expect(existsSync(site.path('run'))).toBe(false);
  });

  test('keeps settings that the operator has changed, unless they are purged', async () => {
    await install(site.request('1.6'), site.machine());
    writeFileSync(
      site.path('etc', 'node.toml'),
      `${readFileSync(site.path('etc', 'node.toml'), 'utf8')}# mine\n`,
    );
    await site.takeBack();
    expect(existsSync(site.path('etc', 'node.toml'))).toBe(true);
    await install(site.request('1.6'), site.machine());
    await site.takeBack({ purge: true });
    expect(existsSync(site.path('state'))).toBe(false);
  });

  test('changes nothing on a dry run, and says when nothing is installed', async () => {
    site.writeOperators();
    await install(site.request('1.6'), site.machine());
    const before = site.files();
    const { files } = await site.takeBack({ dryRun: true });
    expect(files.map(({ change }) => change)).toEqual(['removed', 'removed', 'restored']);
    expect(site.files()).toEqual(before);
    await site.takeBack();
    await expect(site.takeBack()).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  test('after a second installation over changed files gives back what the operator has now', async () => {
    const file = site.writeOperators();
    await install(site.request('1.6'), site.machine());
    writeFileSync(file, readFileSync(file, 'utf8').replace('# mirrors', '# other mirrors'));
    await install(site.request('1.6'), site.machine());
    await site.takeBack();
    expect(readFileSync(file, 'utf8')).toBe(site.operators.replace('# mirrors', '# other mirrors'));
    expect(parse(readFileSync(file, 'utf8'))).toBeDefined();
  });
});
