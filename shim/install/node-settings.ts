/** The agent's own configuration, as an installation writes it where there is none. */
import { join } from 'node:path';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  DEFAULT_RUNTIME_DIRECTORY,
  DEFAULT_STATE_DIRECTORY,
  parseAgentConfig,
} from '../agent/agent-config.ts';
import { DEFAULT_NODE_MODE } from '../agent/node-mode.ts';
import { parseToml } from './toml-text.ts';

const DEFAULT_CONTAINERD_ADDRESS = '/run/containerd/containerd.sock';

/** What the operator has said; undefined = nothing. */
export interface NodeSettings {
  readonly key_server: string | undefined;
  readonly enrollment: string | undefined;
  readonly authority_file: string | undefined;
  readonly mode: string | undefined;
  readonly containerd_address: string | undefined;
  readonly state_directory: string | undefined;
  readonly runtime_directory: string | undefined;
  readonly node_name: string | undefined;
}

const DEFAULTS: Partial<NodeSettings> = {
  mode: DEFAULT_NODE_MODE,
  containerd_address: DEFAULT_CONTAINERD_ADDRESS,
  state_directory: DEFAULT_STATE_DIRECTORY,
  runtime_directory: DEFAULT_RUNTIME_DIRECTORY,
};

/**
 * The text of the configuration: the one that is there, untouched, or a new one with what differs from the defaults.
 * @param existing undefined when there is none
 * @param path of the file
 * @throws LatchkeyError USAGE_INVALID without a key server, CONFIG_INVALID for a file that says otherwise than the
 *   operator now does, or for a wrong value
 */
export function nodeConfiguration(
  existing: string | undefined,
  settings: NodeSettings,
  path: string,
): string {
  if (existing !== undefined) {
    parseAgentConfig(existing, path);
    refuseOther(existing, settings, path);
    return existing;
  }
  const { key_server: keyServer } = settings;
  if (keyServer === undefined) {
    throw new LatchkeyError('USAGE_INVALID', `there is no ${path} yet, and no key server is named`, {
      hint: "give --key-server host:port and --authority FILE, as the software's vendor says",
    });
  }
  const complete: NodeSettings = {
    ...settings,
    enrollment: settings.enrollment ?? nextPort(keyServer),
    authority_file: settings.authority_file ?? join(path, '..', 'authority.pem'),
  };
  const lines = Object.entries(complete).flatMap(([name, value]: [string, string | undefined]) =>
    value === undefined || DEFAULTS[name as keyof NodeSettings] === value
      ? []
      : [`${name} = ${JSON.stringify(value)}`],
  );
  const text = `# The Latchkey node agent. Every setting is in docs/operator-guide.md; changes need a restart of the agent.\n${lines.join('\n')}\n`;
  parseAgentConfig(text, path);
  return text;
}

/** Node activation has its own port, by default the one after. */
function nextPort(address: string): string | undefined {
  const match = /^(.*):(\d{1,5})$/.exec(address);
  return match === null ? undefined : `${match[1] ?? ''}:${Number(match[2]) + 1}`;
}

function refuseOther(existing: string, settings: NodeSettings, path: string): void {
  const file = parseToml(existing, path);
  for (const [name, value] of Object.entries(settings) as [keyof NodeSettings, string | undefined][]) {
    const there = file[name] ?? DEFAULTS[name];
    if (value === undefined || there === undefined || there === value) continue;
    throw new LatchkeyError(
      'CONFIG_INVALID',
      `${path} says ${name} = ${JSON.stringify(there)}, not ${value}`,
      {
        hint: `change it there, or leave the option --${optionOf(name)} out; nothing was changed`,
      },
    );
  }
}

function optionOf(name: keyof NodeSettings): string {
  return name === 'authority_file' ? 'authority' : name.replaceAll('_', '-');
}
