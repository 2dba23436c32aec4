/** The agent is up before containerd, at every boot. */
import net from 'node:net';
import { join } from 'node:path';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { expect, test, vi } from 'vitest';
import { VersionService } from '#src/wire/generated/containerd/version.ts';
import { ContainerdConnection } from '../../../shim/containerd/connection.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();

test('a containerd that comes long after the agent is found at once', async () => {
  const address = join(directory(), 'c.sock');
  const connection = new ContainerdConnection(address);
  const server = new Server();
  server.addService(VersionService, {
    version: (_call: unknown, answer: (error: null, value: object) => void) => {
      answer(null, { version: '1.6.20', revision: '' });
    },
  });
  const looks = vi.spyOn(net, 'connect');
  try {
    // Each failed look makes gRPC wait longer before the next one: left alone it takes five in this time.
    for (let asked = 0; asked < 100; asked += 1) {
      await expect(connection.version()).rejects.toMatchObject({ code: 'NET_UNREACHABLE' });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(looks.mock.calls.length).toBeGreaterThan(20);
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix://${address}`, ServerCredentials.createInsecure(), (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
    await expect.poll(() => connection.version().catch(String)).toBe('1.6.20');
  } finally {
    looks.mockRestore();
    connection.close();
    server.forceShutdown();
  }
});

test('one that has just come is waited for', async () => {
  const address = join(directory(), 'c.sock');
  const connection = new ContainerdConnection(address);
  const server = new Server();
  server.addService(VersionService, {
    version: (_call: unknown, answer: (error: null, value: object) => void) => {
      answer(null, { version: '1.6.20', revision: '' });
    },
  });
  try {
    for (let asked = 0; asked < 10; asked += 1) {
      await expect(connection.version()).rejects.toMatchObject({ code: 'NET_UNREACHABLE' });
    }
    await new Promise<void>((resolve) => {
      server.bindAsync(`unix://${address}`, ServerCredentials.createInsecure(), () => {
        resolve();
      });
    });
    await connection.untilReachable();
    expect(await connection.version()).toBe('1.6.20');
  } finally {
    connection.close();
    server.forceShutdown();
  }
});
