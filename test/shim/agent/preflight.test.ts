/** From the command on a node over the agent's socket: what the key server says about a start, and nothing taken. */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { digestOf } from '#src/oci/digest.ts';
import { AgentService } from '#src/wire/generated/latchkey/agent.ts';
import { type AgentServiceParts, agentService } from '../../../shim/agent/agent-service.ts';
import { LeaseKeeper } from '../../../shim/agent/lease-keeper.ts';
import { runLatchkey } from '../../fakes/command-line.ts';
import { type SocketServer, serveOnSocket } from '../../fakes/grpc-server.ts';
import { LeaseIssuer, NODE_ID } from '../../fakes/lease-issuer.ts';
import { manualClock } from '../../fakes/manual-clock.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const subject = { imageDigest: digestOf('an image'), imageKeyId: 'key-1' };
const SUSPENDED = new LatchkeyError('DENIED_LICENSE_SUSPENDED', 'license lic-1 is suspended', {
  licenseId: 'lic-1',
  contact: 'help@acme.example',
});
let issuer: LeaseIssuer;
let leases: LeaseKeeper;
let socket: SocketServer;

beforeEach(async () => {
  const clock = manualClock();
  issuer = new LeaseIssuer(clock);
  leases = new LeaseKeeper(clock, { onEnded: () => undefined });
  const agent = { leases, identity: { nodeId: NODE_ID } };
  const service = agentService({ agent } as unknown as AgentServiceParts);
  socket = await serveOnSocket(join(directory(), 'agent.sock'), [[AgentService, service]]);
});

afterEach(() => {
  socket.close();
});

const command = (...args: string[]) =>
  runLatchkey(['node', 'preflight', '--socket', socket.socketPath, ...args], { directory: directory() });

describe('a preflight', () => {
  test('gives what the key server says and takes no lease', async () => {
    leases.setAuthority(issuer.authority());
    const answer = { nodeId: NODE_ID, licenseId: 'lic-1', productCode: 'acme-web', version: '2.0.0' };
    const { status, stdout } = await command(subject.imageDigest, '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ allowed: true, imageDigest: subject.imageDigest, ...answer });
    issuer.refusal = SUSPENDED;
    const refused = await command(subject.imageDigest);
    expect(refused).toMatchObject({ status: 77, stdout: '' });
    expect(refused.stderr).toBe(
      'latchkey: DENIED_LICENSE_SUSPENDED: license lic-1 is suspended; contact: help@acme.example\n',
    );
    expect(issuer.acquired).toBe(0);
    expect(leases.all()).toEqual([]);
    expect(leases.denialOf(subject)).toBeUndefined();
  });

  test('is refused as starts are on a node that may start nothing', async () => {
    await expect(leases.preflight(subject.imageDigest)).rejects.toMatchObject({
      code: 'DENIED_NODE_NOT_ACTIVATED',
    });
    leases.setAuthority(issuer.authority());
    issuer.nodeRefusal = new LatchkeyError('DENIED_CLOCK_ROLLBACK', 'the clock was set back');
    await expect(leases.preflight(subject.imageDigest)).rejects.toBe(issuer.nodeRefusal);
  });
});
