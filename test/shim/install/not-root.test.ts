/** What somebody hears who is not root. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { AgentConnection } from '#src/wire/agent-connection.ts';
import { main } from '../../../shim/install/main.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();

beforeEach(() => {
  vi.spyOn(process, 'getuid').mockReturnValue(1000);
});
afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

test('the doctor finds nothing rather than everything missing', async () => {
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  await main(['doctor', JSON.stringify({ config: '/etc/latchkey/node.toml' })]);
  expect(JSON.parse(String(write.mock.lastCall?.[0]))).toMatchObject({
    error: { code: 'CONFIG_INVALID', hint: 'use sudo' },
  });
});

test('an agent that does not answer may be one that he does not reach', async () => {
  const agent = new AgentConnection(`${directory()}/agent.sock`);
  await expect(agent.status()).rejects.toMatchObject({
    code: 'NET_UNREACHABLE',
    hint: expect.stringContaining('use sudo') as string,
  });
  agent.close();
});
