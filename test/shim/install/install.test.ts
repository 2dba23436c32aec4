import { chmodSync, existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'smol-toml';
import { beforeEach, describe, expect, test } from 'vitest';
import { agentPaths } from '../../../shim/agent/agent-config.ts';
import { type InstallOptions, installIntoContainerd } from '../../../shim/install/install.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const ORIGINAL = '# kept by the operator\nversion = 2\nroot = "/data"\n';

beforeEach(() => {
  writeContainerd('containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+b1');
});

function configPath(): string {
  return join(directory(), 'config.toml');
}

/** A program that says it is a containerd of this version. */
function writeContainerd(version: string): void {
  writeFileSync(join(directory(), 'containerd'), `#!/bin/sh\necho '${version}'\n`, { mode: 0o755 });
}

function install(change: Partial<InstallOptions> = {}) {
  return installIntoContainerd({
    paths: agentPaths('/var/lib/latchkey/node', '/run/latchkey'),
    configPath: configPath(),
    containerdProgram: join(directory(), 'containerd'),
    platform: 'linux/amd64',
    dryRun: false,
    ...change,
  });
}

describe('an installation', () => {
  test('writes a configuration where there was none, with its directory', async () => {
    const path = join(directory(), 'etc', 'containerd', 'config.toml');
    const result = await install({ configPath: path });
    expect(result).toMatchObject({ containerdVersion: '1.6.20~ds1', changed: true, backupPath: undefined });
    expect(readFileSync(path, 'utf8')).toBe(result.configuration);
    expect(parse(result.configuration)).toMatchObject({ version: 2, proxy_plugins: { latchkey: {} } });
    expect(readdirSync(join(path, '..'))).toEqual(['config.toml']);
  });

  test('keeps the configuration that was there beside the new one', async () => {
    writeFileSync(configPath(), ORIGINAL);
    const { backupPath } = await install();
    expect(readFileSync(backupPath!, 'utf8')).toBe(ORIGINAL);
    expect(parse(readFileSync(configPath(), 'utf8'))).toMatchObject({ root: '/data' });
  });

  test('changes nothing the second time', async () => {
    writeFileSync(configPath(), ORIGINAL);
    const first = await install();
    const second = await install();
    expect(second).toMatchObject({ changed: false, backupPath: undefined });
    expect(second.configuration).toBe(first.configuration);
    expect(readFileSync(`${configPath()}.before-latchkey`, 'utf8')).toBe(ORIGINAL);
  });

  test('never overwrites the first backup', async () => {
    writeFileSync(configPath(), ORIGINAL);
    await install();
    writeFileSync(configPath(), 'version = 2\nroot = "/other"\n');
    expect(await install()).toMatchObject({ changed: true });
    expect(readFileSync(`${configPath()}.before-latchkey`, 'utf8')).toBe(ORIGINAL);
  });

  test('shows what it would do on a dry run, and does nothing', async () => {
    writeFileSync(configPath(), ORIGINAL);
    const result = await install({ dryRun: true });
    expect(result.changed).toBe(true);
    expect(result.configuration).toContain('latchkey');
    expect(readFileSync(configPath(), 'utf8')).toBe(ORIGINAL);
    expect(readdirSync(directory()).sort()).toEqual(['config.toml', 'containerd']);
  });

  test('leaves a file that only its owner may read so: it may hold registry passwords', async () => {
    writeFileSync(configPath(), ORIGINAL);
    chmodSync(configPath(), 0o600);
    const { backupPath } = await install();
    for (const path of [configPath(), backupPath!]) expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('writes the syntax of the containerd that is there', async () => {
    writeContainerd('containerd github.com/containerd/containerd/v2 v2.1.9 1c4457e0');
    const { configuration, containerdVersion } = await install();
    expect(containerdVersion).toBe('v2.1.9');
    expect(parse(configuration)).toMatchObject({ version: 3 });
  });
});

describe('what is refused leaves everything as it was', () => {
  test.each([
    ['broken TOML', 'version = 2\n[plugins\n'],
    [
      'layers that are thrown away',
      'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\ndiscard_unpacked_layers = true\n',
    ],
    ['another version', 'disabled_plugins = ["cri"]\n'],
  ])('%s', async (_case, text) => {
    writeFileSync(configPath(), text);
    await expect(install()).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    expect(readFileSync(configPath(), 'utf8')).toBe(text);
    expect(readdirSync(directory()).sort()).toEqual(['config.toml', 'containerd']);
  });

  test('broken TOML is named in one line', async () => {
    writeFileSync(configPath(), 'version = = 2');
    const error = await install().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ message: expect.stringContaining(configPath()) as string });
    expect((error as { line: string }).line).not.toContain('\n');
  });

  test('a containerd that is too old, or not there', async () => {
    writeContainerd('containerd github.com/containerd/containerd 1.4.13~ds1 1.4.13~ds1-1');
    await expect(install()).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await expect(install({ containerdProgram: join(directory(), 'nothing') })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      hint: expect.stringContaining('--containerd') as string,
    });
    expect(existsSync(configPath())).toBe(false);
  });
});
