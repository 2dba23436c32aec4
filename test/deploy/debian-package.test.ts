/** The Debian package as an operator meets it: installed, run, upgraded under running containers, removed, purged. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { VERSION } from '#src/base/installation.ts';
import { packageFileName } from '../../deploy/debian/control.ts';
import { buildNodePackage } from '../../deploy/debian/node-package.ts';
import { executableName } from '../../deploy/distribution.ts';
import { DebianRoot } from '../../lab/debian-root.ts';
import { builtDistribution } from '../../lab/distribution.ts';
import { LabAgent } from '../../lab/node-agent.ts';
import { stopAll } from '../../lab/stop-all.ts';
import {
  GatedSite,
  SECRET,
  releaseSecretImage,
  secretLayer,
  siteSkipReason,
  until,
} from '../e2e/gated-site.ts';
import { runProgram } from '../fakes/command-line.ts';

const run = promisify(execFile);
const HOST = process.arch === 'arm64' ? 'arm64' : 'x64';
const PREVIOUS_VERSION = '0.0.9';
const NEVER_REACHED_SCHEMA = 1_000_000;
const PRINT = ['/bin/busybox', 'cat', '/app/one.txt'];

const skipReason = siteSkipReason() ?? (existsSync('/usr/bin/dpkg') ? undefined : 'needs dpkg');

describe.skipIf(skipReason !== undefined)(`the Debian package ${skipReason ?? ''}`, () => {
  let directory: string;
  let root: DebianRoot;
  let gated: GatedSite;
  let packagePath: string;
  let pod: { sandboxId: string; containerId: string };
  const state = () => root.path('var/lib/latchkey/node');
  const program = () => root.path('usr/bin/latchkey');
  const at = (name: string) => join(directory, name);

  beforeAll(async () => {
    const built = await builtDistribution(HOST);
    packagePath = join(built, packageFileName(VERSION, HOST));
    directory = await mkdtemp(join(tmpdir(), 'lk-deb-'));
    root = await DebianRoot.create(at('root'), ['libc6', 'libgcc-s1', 'libstdc++6']);
    await mkdir(at('bin'));
    // All of this machine's programs but Node.
    for (const folder of ['/usr/sbin', '/usr/bin']) {
      for (const name of await readdir(folder)) {
        if (/^(?:node|nodejs|npm|npx|corepack)$/.test(name)) continue;
        await symlink(join(folder, name), at(`bin/${name}`)).catch(() => undefined);
      }
    }
    // The same program as the version before: an older one is not to be had, its journal is below.
    const previous = await buildNodePackage(
      {
        version: PREVIOUS_VERSION,
        license: 'Apache-2.0',
        architecture: HOST,
        executable: join(built, executableName(HOST)),
        billOfMaterials: '{}',
        licenseTexts: '',
        compression: 'none',
      },
      at('previous'),
    );
    expect(await root.dpkg('--install', previous)).toMatchObject({ status: 0 });
    gated = await GatedSite.start({
      agentProgram: { command: [program(), 'node', 'run', '--config'], env: { PATH: at('bin') } },
    });
    await gated.activate();
    await gated.site.cri.pullImage(gated.image);
    await gated.pullWithCtr();
    pod = await gated.site.cri.runPod('survivor', gated.image);
  });
  afterAll(async () => {
    await stopAll(
      () => gated.stop(),
      () => rm(directory, { recursive: true, force: true }),
    );
  });

  async function expectAlive(): Promise<void> {
    const { output } = await gated.site.cri.execSync(pod.containerId, PRINT);
    expect(output).toContain(`${SECRET} one`);
  }

  test('is one that dpkg installs only beside the libraries that it needs', async () => {
    const empty = await DebianRoot.create(at('empty'), []);
    const { status, output } = await empty.dpkg('--install', packagePath);
    expect(status).not.toBe(0);
    expect(output).toContain('libstdc++6');
  });

  test('says the way to go on, and has a unit that starts what it installed', async () => {
    const fresh = await run('dpkg-deb', ['--ctrl-tarfile', packagePath], { encoding: 'buffer' });
    expect(fresh.stdout.toString('latin1')).toContain('latchkey node install');
    const unit = await readFile(root.path('usr/lib/systemd/system/latchkey-node.service'), 'utf8');
    expect(unit).toContain('ExecStart=/usr/bin/latchkey node run');
    expect(await root.dpkg('--verify', 'latchkey-node')).toEqual({ status: 0, output: '' });
  });

  test('has its executable as the agent that gates a real containerd, without Node on the path', async () => {
    await expectAlive();
    expect(await gated.site.agent.log()).toContain('"processor":"native"');
    expect((await gated.runWithCtr('from-package')).output).toContain(`${SECRET} one`);
  });

  test('is upgraded under a running container, whose state the new agent goes on with', async () => {
    await mkdir(join(state(), 'identity'), { recursive: true });
    await writeFile(join(state(), 'snapshots.db'), 'of an agent on this path');
    await writeFile(root.path('etc/latchkey/node.toml'), '# written by the operator\n');
    const before = (await gated.agent.status()).gatedLayers.length;
    expect(before).toBeGreaterThan(0);

    const upgraded = await root.dpkg('--install', packagePath);
    expect(upgraded).toMatchObject({ status: 0 });
    expect(upgraded.output).toContain(PREVIOUS_VERSION);
    expect((await root.dpkg('--status', 'latchkey-node')).output).toContain(`\nVersion: ${VERSION}\n`);
    expect(await readFile(join(state(), 'snapshots.db'), 'utf8')).toBe('of an agent on this path');
    // Until it is restarted, the old one goes on.
    await expectAlive();
    expect((await gated.runWithCtr('not-restarted')).output).toContain(`${SECRET} one`);

    await gated.site.agent.stop();
    await expectAlive();
    await gated.site.agent.start();
    await expectAlive();
    expect((await gated.agent.status()).gatedLayers).toHaveLength(before);
    // containerd dials again within seconds.
    await until(async () => (await gated.runWithCtr('upgraded')).output.includes(`${SECRET} one`));
  });

  test('has the stream processor that Node runs in the same executable', async () => {
    await gated.site.agent.stop();
    await gated.site.agent.start({ processor: 'node' });
    await releaseSecretImage(gated.site, 'second', [secretLayer('one'), secretLayer('three')]);
    const image = gated.site.reference('second');
    await until(() =>
      gated.site.cri.pullImage(image).then(
        () => true,
        () => false,
      ),
    );
    const second = await gated.site.cri.runPod('second', image);
    const print = [...PRINT, '/app/three.txt'];
    expect((await gated.site.cri.execSync(second.containerId, print)).output).toContain(`${SECRET} three`);
    await expectAlive();
  });

  test('reads the journal of schema 1, as the first version wrote it', async () => {
    const agent = new LabAgent({
      directory: at('first'),
      containerdAddress: gated.site.containerd.address,
      keyServer: gated.site.keyServer.nodeAddress,
      enrollment: gated.site.keyServer.enrollAddress,
      authorityFile: join(gated.site.directory, 'authority.pem'),
      command: [program(), 'node', 'run', '--config'],
      env: { PATH: at('bin') },
    });
    await mkdir(agent.stateDirectory, { recursive: true });
    const vector = join(import.meta.dirname, '..', 'vectors', 'snapshot-journal-1.db');
    await copyFile(vector, agent.paths.journalFile);
    try {
      await agent.start();
      const connection = agent.connect();
      expect((await connection.status()).gatedLayers).toHaveLength(2);
      connection.close();
    } finally {
      await agent.stop();
      await agent.forgetMemory();
    }
  });

  test('refuses a downgrade in one line, and does no harm to the journal of the newer version', async () => {
    const { agent } = gated.site;
    await agent.stop();
    const schema = setSchema(agent.paths.journalFile, NEVER_REACHED_SCHEMA);
    const place = { directory, env: { PATH: at('bin') } };
    const { status, stderr } = await runProgram(
      program(),
      ['node', 'run', '--config', agent.configPath],
      place,
    );
    expect(status).toBe(78);
    expect(stderr).toMatch(/^latchkey: STATE_NEWER_SCHEMA: [^\n]*was written by a newer Latchkey; [^\n]*\n$/);
    expect(setSchema(agent.paths.journalFile, schema)).toBe(NEVER_REACHED_SCHEMA);
    await expectAlive();
    await agent.start();
    await until(async () => (await gated.runWithCtr('after-downgrade')).output.includes(`${SECRET} one`));
  });

  test('keeps the state when it is removed, and takes it when it is purged', async () => {
    await mkdir(root.path('etc/containerd'), { recursive: true });
    await writeFile(root.path('etc/containerd/config.toml'), '[proxy_plugins.latchkey]\n');
    const removed = await root.dpkg('--remove', 'latchkey-node');
    expect(removed).toMatchObject({ status: 0 });
    expect(removed.output).toContain('is still set up for the agent');
    expect(existsSync(program())).toBe(false);
    expect(existsSync(join(state(), 'snapshots.db'))).toBe(true);
    await expectAlive();

    // What an agent leaves behind that was killed.
    for (const path of ['plaintext', 'plaintext/layers']) {
      await mkdir(join(state(), path), { recursive: true });
      await run('mount', ['-t', 'tmpfs', 'tmpfs', join(state(), path)]);
    }
    expect(await root.dpkg('--purge', 'latchkey-node')).toMatchObject({ status: 0 });
    expect(await readFile('/proc/self/mounts', 'utf8')).not.toContain(state());
    expect(existsSync(state())).toBe(false);
    expect(await readFile(root.path('etc/latchkey/node.toml'), 'utf8')).toContain('operator');
    expect((await root.dpkg('--list', 'latchkey-node')).output).not.toContain('ii  latchkey-node');
  });
});

/** Gives the journal another schema number, and says which it had. */
function setSchema(path: string, schema: number): number {
  const database = new DatabaseSync(path);
  const before = database.prepare('PRAGMA user_version').get()?.['user_version'];
  database.exec(`PRAGMA user_version = ${schema}`);
  database.close();
  return Number(before);
}
