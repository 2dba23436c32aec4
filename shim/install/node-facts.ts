/** Gathers what the doctor has to know of this machine. */
import * as z from 'zod';
import { AgentConnection } from '#src/wire/agent-connection.ts';
import { DEFAULT_CONFIG_PATH, parseAgentConfig } from '../agent/agent-config.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { hasSwap, plaintextStoreState } from '../snapshotter/plaintext-store.ts';
import { DEFAULT_SETTINGS } from './agent-presence.ts';
import { DEFAULT_CONTAINERD_CONFIG } from './containerd-search.ts';
import { type Finding, diagnose } from './doctor.ts';
import { readIfThere } from './planned-file.ts';
import { parseToml } from './toml-text.ts';

export const doctorRequestSchema = z.strictObject({
  config: z.string(),
  containerdConfig: z.string().default(DEFAULT_CONTAINERD_CONFIG),
});

/** Every check of this machine with its finding. */
export async function examine({
  config,
  containerdConfig,
}: z.infer<typeof doctorRequestSchema>): Promise<{ findings: Finding[] }> {
  const text = await readIfThere(config);
  if (text === undefined && config !== DEFAULT_CONFIG_PATH)
    throw new LatchkeyError('CONFIG_INVALID', `the agent's configuration ${config} cannot be read`);
  const { paths } = parseAgentConfig(text ?? DEFAULT_SETTINGS, config);
  const connection = new AgentConnection(paths.agentSocket);
  try {
    const agent = await connection.status().catch(() => undefined);
    const containerdText = await readIfThere(containerdConfig);
    const store = await plaintextStoreState(paths.memoryDirectory).catch(() => undefined);
    return {
      findings: diagnose({
        paths,
        agent,
        containerdConfig:
          containerdText === undefined ? undefined : parseToml(containerdText, containerdConfig),
        containerdConfigPath: containerdConfig,
        neverSwapped: store?.neverSwapped ?? !(await hasSwap()),
      }),
    };
  } finally {
    connection.close();
  }
}
