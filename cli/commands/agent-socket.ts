/** The line to the agent on this machine. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import { type CommandContext, variable } from '../context.ts';

const DEFAULT_AGENT_SOCKET = '/run/latchkey/agent.sock';

export interface SocketOptions {
  readonly socket: string;
}

/** Adds the option that names the agent's socket. */
export function withSocket(command: Command, context: CommandContext): Command {
  const fallback = variable(context, 'LATCHKEY_AGENT_SOCKET') ?? DEFAULT_AGENT_SOCKET;
  return command.option('--socket <path>', "the agent's socket (LATCHKEY_AGENT_SOCKET)", fallback);
}

export async function withAgent<Result>(
  options: SocketOptions,
  use: (agent: import('#src/wire/agent-connection.ts').AgentConnection) => Promise<Result>,
): Promise<Result> {
  const { AgentConnection } = await import('#src/wire/agent-connection.ts');
  const agent = new AgentConnection(options.socket);
  try {
    return await use(agent);
  } finally {
    agent.close();
  }
}

/** The first line of standard input, so that a key need not stand in a shell's history. */
export async function readLine(): Promise<string> {
  const { createInterface } = await import('node:readline');
  for await (const line of createInterface({ input: process.stdin })) return line.trim();
  throw new LatchkeyError('USAGE_INVALID', 'standard input is empty', {
    hint: 'give the license key on its first line',
  });
}
