import { join } from 'node:path';
import { expect, it } from 'vitest';
import { MEBIBYTE } from '#src/base/units.ts';
import { AgentConnection } from '#src/wire/agent-connection.ts';
import { AgentService, LeaseStatus, StatusResponse } from '#src/wire/generated/latchkey/agent.ts';
import { unaryHandler } from '#src/wire/unary.ts';
import { serveOnSocket } from '../fakes/grpc-server.ts';
import { temporaryDirectory } from '../fakes/temporary-directory.ts';

const directory = temporaryDirectory();

it('takes the status of a large node, whose leases alone are larger than what gRPC takes by itself', async () => {
  const token = 'x'.repeat(6000);
  const leases = Array.from({ length: 1000 }, () => LeaseStatus.fromPartial({ token }));
  const status = StatusResponse.fromPartial({ leases });
  expect(StatusResponse.encode(status).finish().length).toBeGreaterThan(4 * MEBIBYTE);
  const service = { status: unaryHandler(() => Promise.resolve(status)) };
  const agent = await serveOnSocket(join(directory(), 'agent.sock'), [[AgentService, service]]);
  const connection = new AgentConnection(agent.socketPath);
  try {
    expect((await connection.status()).leases).toHaveLength(leases.length);
  } finally {
    connection.close();
    agent.close();
  }
});
