/** `latchkey node doctor` as it is called. */
import { existsSync, writeFileSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import { runLatchkey } from '../../fakes/command-line.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const why = process.getuid?.() === 0 ? '' : ' (skipped: needs root)';

const doctor = (...args: string[]) =>
  runLatchkey(['node', 'doctor', '--config', 'node.toml', ...args], { directory: directory() });

function settings(mode: string): string {
  const directories = `state_directory = "${directory()}"\nruntime_directory = "${directory()}/run"\n`;
  return `key_server = "127.0.0.1:1"\nenrollment = "127.0.0.1:2"\nauthority_file = "a"\nmode = "${mode}"\n${directories}`;
}

beforeEach(() => {
  writeFileSync(`${directory()}/node.toml`, settings('hook'));
});

describe.skipIf(why !== '')(`the doctor’s command${why}`, () => {
  test('says of a root key that is not there that it is not, rather than nothing', async () => {
    const { status, stderr } = await doctor('--root-key', '/nowhere/root.key');
    expect(stderr).toContain('there is no root key /nowhere/root.key');
    expect(status).toBe(2);
  });

  test('gives one JSON document, also when something is bad', async () => {
    const { status, stdout, stderr } = await doctor('--json');
    const { findings } = JSON.parse(stdout) as { findings: { id: string; severity: string }[] };
    expect(findings).toContainEqual(expect.objectContaining({ id: 'agent-not-running', severity: 'bad' }));
    expect(stderr).toContain('checks found something');
    expect(status).toBe(78);
  });

  const needsContainerd = existsSync('/usr/bin/containerd') ? undefined : 'needs containerd';
  test.skipIf(needsContainerd !== undefined)(
    `takes the configuration from where it is called ${needsContainerd ?? ''}`,
    async () => {
      writeFileSync(`${directory()}/node.toml`, settings('sweep'));
      writeFileSync(`${directory()}/config.toml`, 'version = 2\n');
      const { stdout } = await doctor('--containerd-config', 'config.toml');
      expect(stdout).toContain(`no containerd runs with ${directory()}/config.toml`);
    },
  );
});
