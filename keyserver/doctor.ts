/** `keyserver/main.js doctor`: what is wrong with how a key server is set up. */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock } from '#src/base/clock.ts';
import { DEFAULT_DATA_DIRECTORY, databaseOf } from './arguments.ts';
import { readTokenOption } from './custody/root-key-token.ts';
import { gatherFacts } from './doctor/facts.ts';
import { type Finding, diagnoseServer } from './doctor/findings.ts';

const OPTIONS = {
  data: { type: 'string', default: DEFAULT_DATA_DIRECTORY },
  database: { type: 'string' },
  'root-key': { type: 'string' },
  'root-key-token': { type: 'string' },
  'audit-checkpoints': { type: 'string' },
} as const;

/**
 * @param args after `doctor`
 * @throws LatchkeyError USAGE_INVALID, STATE_NOT_FOUND, CONFIG_INVALID, NET_UNREACHABLE, STATE_DAMAGED
 */
export async function doctor(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<{ readonly findings: readonly Finding[] }> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS, strict: true });
  const token = values['root-key-token'];
  const facts = await gatherFacts(
    {
      dataDirectory: values.data,
      database: databaseOf(values.database, environment),
      rootKeyFile: values['root-key'] ?? join(values.data, 'root.key'),
      rootKeyToken: token === undefined ? null : readTokenOption(token),
      checkpointDirectory: values['audit-checkpoints'] ?? null,
    },
    systemClock.nowMs(),
  );
  return { findings: diagnoseServer(facts) };
}
