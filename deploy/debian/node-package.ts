/** The Debian package of a version: what goes into it, from the executable and from what else is known of a node. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  DEFAULT_RUNTIME_DIRECTORY,
  DEFAULT_STATE_DIRECTORY,
  agentPaths,
} from '../../shim/agent/agent-config.ts';
import { NODE_SERVICE, nodeServiceUnit } from '../../shim/install/systemd-units.ts';
import { ROOT } from '../executable/bundle.ts';
import { type PackageContents, buildDebianPackage } from './package.ts';

/** As the package installs it. */
const INSTALLED_PROGRAM = '/usr/bin/latchkey';
/** Where the sources say no time: the first that all archive formats know. */
const NO_TIME_SECONDS = 315_532_800;

const EXAMPLE_CONFIGURATION = `# The node agent's configuration; the place for it is /etc/latchkey/node.toml.
# Addresses and authority.pem come from the software vendor.
key_server = "keys.vendor.example:7443"
enrollment = "keys.vendor.example:7444"
authority_file = "/etc/latchkey/authority.pem"
`;

export type NodePackage = Omit<
  PackageContents,
  'unit' | 'changelog' | 'exampleConfiguration' | 'timeSeconds'
>;

/** Builds the package of an executable into a directory and gives its path. */
export async function buildNodePackage(contents: NodePackage, directory: string): Promise<string> {
  const paths = agentPaths(DEFAULT_STATE_DIRECTORY, DEFAULT_RUNTIME_DIRECTORY);
  const unit = nodeServiceUnit([INSTALLED_PROGRAM, 'node', 'run'], paths, ['containerd.service']);
  return buildDebianPackage(
    {
      ...contents,
      unit: { name: NODE_SERVICE, text: unit.replace(/^# Written by .*\n/, '') },
      changelog: await readFile(join(ROOT, 'CHANGELOG.md'), 'utf8'),
      exampleConfiguration: EXAMPLE_CONFIGURATION,
      timeSeconds: await sourceTimeSeconds(),
    },
    directory,
  );
}

/** Of the last commit: when it was built says nothing of what is in it. */
async function sourceTimeSeconds(): Promise<number> {
  const log = promisify(execFile)('git', ['log', '-1', '--format=%ct'], { cwd: ROOT });
  return log.then(
    ({ stdout }) => Number(stdout.trim()) || NO_TIME_SECONDS,
    () => NO_TIME_SECONDS,
  );
}
