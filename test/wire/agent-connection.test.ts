/** What whoever asks the agent hears: a long answer, and that something is away. */
import { afterEach, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { MEBIBYTE } from '#src/base/units.ts';
import { AgentConnection } from '#src/wire/agent-connection.ts';
import { AgentService, LeaseStatus, StatusResponse } from '#src/wire/generated/latchkey/agent.ts';
import { unaryHandler } from '#src/wire/unary.ts';
import { serveOnSocket } from '../fakes/grpc-server.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const socket = () => `${directory()}/agent.sock`;
const closing: (() => void)[] = [];

afterEach(() => {
  for (const close of closing.splice(0)) close();
});

function connection(): AgentConnection {
  const agent = new AgentConnection(socket());
  closing.push(() => {
    agent.close();
  });
  return agent;
}

async function serve(service: Parameters<typeof serveOnSocket>[1][number]): Promise<void> {
  const server = await serveOnSocket(socket(), [service]);
  closing.push(() => {
    server.close();
  });
}

test('the status of a large node is taken, whose leases alone are more than what gRPC takes by itself', async () => {
  const token = 'x'.repeat(6000);
  const leases = Array.from({ length: 1000 }, () => LeaseStatus.fromPartial({ token }));
  const status = StatusResponse.fromPartial({ leases });
  expect(StatusResponse.encode(status).finish().length).toBeGreaterThan(4 * MEBIBYTE);
  await serve([{ status: AgentService.status }, { status: unaryHandler(() => Promise.resolve(status)) }]);
  expect((await connection().status()).leases).toHaveLength(leases.length);
});

test('an agent that cannot reach the key server is not called away itself', async () => {
  const away = new LatchkeyError('NET_UNREACHABLE', 'key server at keys:7444 is unreachable');
  const activate = unaryHandler(() => Promise.reject(away));
  await serve([{ activate: AgentService.activate }, { activate }]);
  await expect(connection().activate('LK')).rejects.toMatchObject({
    code: 'NET_UNREACHABLE',
    message: 'key server at keys:7444 is unreachable',
  });
});

test('one that is away is', async () => {
  await expect(connection().status()).rejects.toMatchObject({
    code: 'NET_UNREACHABLE',
    message: `the node agent does not answer at ${socket()}`,
  });
});
