/**
 * `install` and `doctor` as a program of their own: one JSON document on stdout, which the `latchkey` command
 * words for people.
 */
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { ERROR_TABLE, LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { AgentConnection } from '#src/wire/agent-connection.ts';
import {
  type AgentPaths,
  DEFAULT_CONFIG_PATH,
  DEFAULT_RUNTIME_DIRECTORY,
  DEFAULT_STATE_DIRECTORY,
  agentPaths,
  parseAgentConfig,
} from '../agent/agent-config.ts';
import { hasSwap, memoryStoreState } from '../snapshotter/memory-store.ts';
import { type Finding, diagnose } from './doctor.ts';
import { type InstallResult, installIntoContainerd, readConfiguration } from './install.ts';

const DEFAULT_CONTAINERD_CONFIG = '/etc/containerd/config.toml';

interface Options {
  readonly config: string;
  readonly containerdConfig: string;
  readonly containerd: string;
  readonly dryRun: boolean;
}

/** Runs one verb and ends the process. */
export async function main(args: readonly string[]): Promise<void> {
  try {
    const result = await run(args);
    process.stdout.write(`${JSON.stringify(result)}\n`);
  } catch (error) {
    const { code, message, hint } = toLatchkeyError(error);
    process.stdout.write(`${JSON.stringify({ error: { code, message, hint } })}\n`);
    process.exitCode = ERROR_TABLE[code].exit;
  }
}

async function run(args: readonly string[]): Promise<InstallResult | { findings: Finding[] }> {
  const { positionals, values } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      config: { type: 'string', default: DEFAULT_CONFIG_PATH },
      'containerd-config': { type: 'string', default: DEFAULT_CONTAINERD_CONFIG },
      containerd: { type: 'string', default: 'containerd' },
      'dry-run': { type: 'boolean', default: false },
    },
  });
  const options: Options = {
    config: values.config,
    containerdConfig: values['containerd-config'],
    containerd: values.containerd,
    dryRun: values['dry-run'],
  };
  const paths = await loadPaths(options.config);
  switch (positionals[0]) {
    case 'install':
      return installIntoContainerd({
        paths,
        configPath: options.containerdConfig,
        containerdProgram: options.containerd,
        platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
        dryRun: options.dryRun,
      });
    case 'doctor':
      return { findings: await examine(paths, options.containerdConfig) };
    default:
      throw new LatchkeyError('USAGE_INVALID', 'expected install or doctor');
  }
}

/** Without a configuration of the agent its default directories count. */
async function loadPaths(configPath: string): Promise<AgentPaths> {
  const text = await readFile(configPath, 'utf8').catch(() => undefined);
  if (text !== undefined) return parseAgentConfig(text, configPath).paths;
  if (configPath !== DEFAULT_CONFIG_PATH) {
    throw new LatchkeyError('CONFIG_INVALID', `the agent's configuration ${configPath} cannot be read`);
  }
  return agentPaths(DEFAULT_STATE_DIRECTORY, DEFAULT_RUNTIME_DIRECTORY);
}

async function examine(paths: AgentPaths, containerdConfigPath: string): Promise<Finding[]> {
  const connection = new AgentConnection(paths.agentSocket);
  try {
    const agent = await connection.status().catch(() => undefined);
    const { exists, table } = await readConfiguration(containerdConfigPath);
    const store = await memoryStoreState(paths.memoryDirectory).catch(() => undefined);
    return diagnose({
      paths,
      agent,
      containerdConfig: exists ? table : undefined,
      containerdConfigPath,
      neverSwapped: store?.neverSwapped ?? !(await hasSwap()),
    });
  } finally {
    connection.close();
  }
}
