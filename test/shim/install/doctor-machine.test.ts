/** Misconfigurations of a machine, made for real where a test may make them. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { processorProgram } from '../../../shim/processor/program.ts';
import { parseAgentConfig } from '../../../shim/agent/agent-config.ts';
import { type MachineFacts, machineFindings } from '../../../shim/install/doctor-machine.ts';
import { machineFacts } from '../../../shim/install/machine-facts.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const OWN = process.arch === 'arm64' ? 'arm64' : 'x64';
const needsRoot = process.getuid?.() === 0 ? undefined : 'needs root';

function config() {
  return parseAgentConfig(
    `key_server = "k:1"\nenrollment = "k:2"\nauthority_file = "a"\nstate_directory = "${directory()}"\nruntime_directory = "${directory()}/run"\n`,
    'node.toml',
  );
}

function writeProcessor(architecture: 'x64' | 'arm64' = OWN, mode = 0o755): void {
  const { processorProgram: path, processorSocket } = config().paths;
  writeFileSync(path, processorProgram(processorSocket, architecture));
  chmodSync(path, mode);
}

function writeRunc(script: string): { plugins: object } {
  const path = join(directory(), 'runc');
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  const runtimes = { runc: { options: { BinaryName: path } } };
  return { plugins: { 'io.containerd.grpc.v1.cri': { containerd: { runtimes } } } };
}

async function failing(
  change: Partial<MachineFacts> = {},
  effective: object = writeRunc('echo runc version 1.1.5'),
): Promise<string[]> {
  const facts = await machineFacts(config(), {
    rootKey: join(directory(), 'root.key'),
    effective: { ...effective },
  });
  const findings = machineFindings({ ...facts, isSwapOn: false, uid: process.getuid?.() ?? 0, ...change });
  for (const { severity, mend } of findings) expect(mend === undefined).toBe(severity === 'ok');
  return findings.filter(({ severity }) => severity !== 'ok').map(({ id }) => id);
}

test('a machine as the agent leaves it has no finding', async () => {
  writeProcessor();
  expect(await failing()).toEqual([]);
});

describe('the stream processor', () => {
  let unmount: (() => void) | undefined;
  afterEach(() => {
    unmount?.();
    unmount = undefined;
  });

  test('is missing', async () => {
    expect(await failing()).toEqual(['processor-missing']);
  });

  test('is not executable', async () => {
    writeProcessor(OWN, 0o644);
    expect(await failing()).toEqual(['processor-not-executable']);
  });

  test('is for another machine', async () => {
    writeProcessor(OWN === 'x64' ? 'arm64' : 'x64');
    expect(await failing()).toEqual(['processor-architecture']);
  });

  test('is a script where there is no native one', async () => {
    writeFileSync(config().paths.processorProgram, '#!/bin/sh\n', { mode: 0o755 });
    expect(await failing()).toEqual([]);
  });

  test.skipIf(needsRoot !== undefined)(`is on a filesystem mounted noexec ${needsRoot ?? ''}`, async () => {
    const state = directory();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'noexec,size=1m', 'latchkey-test', state]);
    unmount = () => execFileSync('umount', [state]);
    writeProcessor();
    // runc from the path: one of the test would lie on the same filesystem.
    expect(await failing({ runc: { program: 'runc', version: '1.1.5' } })).toEqual(['processor-noexec']);
  });
});

describe('runc', () => {
  test.each([
    ['is new enough', 'echo runc version 1.0.0-rc95', []],
    ['is too old', 'echo runc version 0.1.1', ['runc-wrong']],
    [
      'is made for a newer system',
      'echo "runc: /lib/libc.so.6: version GLIBC_2.38 not found" >&2; exit 1',
      ['runc-wrong'],
    ],
  ])('%s', async (_case, script, expected) => {
    writeProcessor();
    expect(await failing({}, writeRunc(script))).toEqual(expected);
  });

  test('is not there', async () => {
    writeProcessor();
    const runtimes = { runc: { options: { BinaryName: '/nowhere/runc' } } };
    const effective = { plugins: { 'io.containerd.grpc.v1.cri': { containerd: { runtimes } } } };
    expect(await failing({}, effective)).toEqual(['runc-wrong']);
  });
});

describe('runc is not looked at', () => {
  const kata = { runtime_type: 'io.containerd.kata.v2', options: {} };
  const withKata = { containerd: { default_runtime_name: 'kata', runtimes: { kata } } };

  test.each<[string, string, object]>([
    ['where podman or CRI-O choose the runtime', 'hook', {}],
    ['where pods get another runtime', 'snapshotter', withKata],
  ])('%s', async (_case, mode, cri) => {
    const facts = await machineFacts(
      { ...config(), mode: mode as 'hook' | 'snapshotter' },
      { rootKey: undefined, effective: { plugins: { 'io.containerd.grpc.v1.cri': cri } } },
    );
    expect(facts.runc).toBeUndefined();
    expect(machineFindings(facts).map(({ id }) => id)).not.toContain('runc-wrong');
  });
});

const needsRunc = existsSync('/usr/sbin/runc') ? undefined : 'needs runc';
test.skipIf(needsRunc !== undefined)(
  `runc is found in a directory of root’s only ${needsRunc ?? ''}`,
  async () => {
    vi.stubEnv('PATH', directory());
    const { runc } = await machineFacts(config(), { rootKey: undefined, effective: {} });
    vi.unstubAllEnvs();
    expect(runc).toHaveProperty('version');
  },
);

describe('key files', () => {
  test('that others can read are found: the node’s and a root key beside', async () => {
    writeProcessor();
    mkdirSync(config().paths.identityDirectory);
    for (const path of [
      join(config().paths.identityDirectory, 'node-key.pem'),
      join(directory(), 'root.key'),
    ]) {
      writeFileSync(path, 'key');
      chmodSync(path, 0o640);
    }
    expect(await failing()).toEqual(['node-key-readable', 'root-key-readable']);
  });

  test('of somebody else are found', async () => {
    writeProcessor();
    mkdirSync(config().paths.identityDirectory);
    writeFileSync(join(config().paths.identityDirectory, 'node-key.pem'), 'key', { mode: 0o600 });
    expect(await failing()).toEqual([]);
    expect(await failing({ uid: 4242 })).toEqual(['node-key-readable']);
  });
});

describe('what a test cannot make', () => {
  test.each<[string, Partial<MachineFacts>, string[]]>([
    ['no overlay', { hasOverlay: false }, ['overlay-missing']],
    ['swap before the agent runs', { isSwapOn: true }, ['swap-on']],
    ['swap that plaintext may reach', { isSwapOn: true, store: { neverSwapped: false } }, ['swap-on']],
    ['swap that it cannot reach', { isSwapOn: true, store: { neverSwapped: true } }, []],
  ])('%s', async (_case, change, expected) => {
    writeProcessor();
    expect(await failing(change)).toEqual(expected);
  });
});
