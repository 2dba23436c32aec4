/** A containerd as its operator has set it up, gated by one command and given back by another. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { stringify } from 'smol-toml';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { AgentConnection } from '#src/wire/agent-connection.ts';
import { labConfiguration } from '../../lab/containerd-configuration.ts';
import { configurationVersionOf, containerdDirectory } from '../../lab/containerd-versions.ts';
import { LabContainerd } from '../../lab/containerd.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET } from './gated-site.ts';

const COMMAND = join(import.meta.dirname, '..', '..', 'cli', 'latchkey.js');

describeOnEachContainerd('node install', (version) => {
  let gated: GatedSite;
  let containerd: LabContainerd;
  let agentProcess: ChildProcess | undefined;
  let configPath: string;
  let original: string;

  const path = (...names: string[]) => join(gated.site.directory, 'o', ...names);

  /** Runs a verb of `latchkey node` as the operator does. */
  async function node(...args: string[]): Promise<string> {
    const command = [COMMAND, 'node', ...args, '--config', path('node.toml')];
    const { stdout } = await promisify(execFile)(process.execPath, command);
    return stdout;
  }

  async function stopAgent(): Promise<void> {
    const child = agentProcess;
    agentProcess = undefined;
    if (child === undefined) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
  }

  function print(id: string, snapshotter: string, image: string, file: string) {
    const run = ['run', '--rm', '--net-host', '--snapshotter', snapshotter, image, id];
    return containerd.ctr([...run, '/bin/busybox', 'sh', '-c', `cat ${file}; sleep 0.2`]);
  }

  beforeAll(async () => {
    gated = await GatedSite.start({ containerd: version });
    const sandboxImage = `${gated.site.registry.host}/pause:1`;
    containerd = new LabContainerd({ directory: path('c'), sandboxImage, version, keepsConfiguration: true });
    configPath = path('c', 'config.toml');
    await mkdir(path('c'), { recursive: true });
    const settings = labConfiguration({
      configurationVersion: configurationVersionOf(version),
      directory: path('c'),
      root: containerd.root,
      address: containerd.address,
      sandboxImage,
    });
    original = `# Written by the operator.\n${stringify(settings)}\n# The end.`;
    await writeFile(configPath, original);
    await writeFile(path('vendor.pem'), gated.site.keyServer.authorityPem);
  });

  afterAll(async () => {
    await containerd.stop();
    await stopAgent();
    await gated.stop();
  });

  test('gates the containerd that is there, which then runs an encrypted image', async () => {
    const program = join(containerdDirectory(version) ?? '', 'containerd');
    const { nodeAddress, enrollAddress } = gated.site.keyServer;
    const said = await node(
      ...[
        'install',
        '--key-server',
        nodeAddress,
        '--enrollment',
        enrollAddress,
        '--authority',
        path('vendor.pem'),
      ],
      ...['--containerd', program, '--containerd-config', configPath],
      ...['--state-directory', path('state'), '--runtime-directory', path('run')],
    );
    expect(said).toContain('set up mode snapshotter');
    agentProcess = spawn(process.execPath, [COMMAND, 'node', 'run', '--config', path('node.toml')], {
      stdio: 'ignore',
    });
    // As at a boot: the agent looks for a containerd that is not there yet, for a while.
    const agent = new AgentConnection(path('run', 'agent.sock'));
    try {
      for (let asked = 0; asked < 5;) if (await agent.status().then(Boolean, () => false)) asked += 1;
      await containerd.start();
      await agent.activate((await gated.license()).licenseKey);
    } finally {
      agent.close();
    }
    const pulled = await containerd.ctr([
      'images',
      'pull',
      '--plain-http',
      '--snapshotter',
      'latchkey',
      gated.image,
    ]);
    expect(pulled).toMatchObject({ status: 0 });
    expect((await print('gated', 'latchkey', gated.image, '/app/one.txt')).output).toContain(SECRET);
  });

  test('and the doctor finds nothing bad', async () => {
    const program = join(containerdDirectory(version) ?? '', 'containerd');
    const said = await node('doctor', '--containerd', program, '--containerd-config', configPath);
    expect(said.split('\n').filter((line) => line.startsWith('BAD'))).toEqual([]);
    expect(said).toContain('ok    containerd-config');
  });

  test('a second installation finds nothing to do, and activates nothing again', async () => {
    const words = ['install', '--restart', '--license-key', '-', '--config', path('node.toml')];
    const running = promisify(execFile)(process.execPath, [COMMAND, 'node', ...words]);
    running.child.stdin?.end('LK-000000\n');
    const { stdout, stderr } = await running;
    expect(stdout).toContain('is set up already');
    expect(stderr).toContain('activated already, as ');
  });

  test('uninstall waits for the agent, then gives the very same file back, and plain images run', async () => {
    await expect(node('uninstall')).rejects.toThrow(/agent still runs/);
    await containerd.stop();
    await stopAgent();
    const said = await node('uninstall', '--purge');
    expect(said).toContain('restored, byte by byte');
    expect(await readFile(configPath, 'utf8')).toBe(original);
    await containerd.start();
    const plain = gated.site.reference('plain');
    expect((await containerd.ctr(['images', 'pull', '--plain-http', plain])).status).toBe(0);
    expect((await print('plain', 'overlayfs', plain, '/proc/uptime')).status).toBe(0);
    const gatedRun = await print('refused', 'overlayfs', gated.image, '/app/one.txt');
    expect(gatedRun.status).not.toBe(0);
    expect(gatedRun.output).not.toContain(SECRET);
  });
});
