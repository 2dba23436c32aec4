/** Copies of the audit log from several key servers on one PostgreSQL. */
import { once } from 'node:events';
import { type Server, createServer } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import { startKeyServer } from '../../lab/keyserver.ts';
import { type TestPostgres, postgresSkipReason, startPostgres } from '../../lab/postgres.ts';
import { adminClient, auditLog } from '../fakes/sold-product.ts';

/** For machines that are busy with other tests. */
const PATIENTLY = { timeout: 60_000 };

const skipReason = postgresSkipReason();

describe.skipIf(skipReason !== null)('of two key servers on one PostgreSQL', () => {
  let postgres: TestPostgres;
  let collector: Server;
  const received: AuditEvent[] = [];

  beforeAll(async () => {
    postgres = await startPostgres();
    collector = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const lines = Buffer.concat(chunks).toString().trimEnd().split('\n');
        received.push(...lines.map((line) => JSON.parse(line) as AuditEvent));
        response.writeHead(204).end();
      });
    }).listen(0, '127.0.0.1');
    await once(collector, 'listening');
  });

  afterAll(async () => {
    collector.close();
    await postgres.dispose();
  });

  it('one makes the copy; when it is killed, the other goes on, and nothing is lost or doubled', async () => {
    const { port } = collector.address() as { port: number };
    const options = {
      args: [`--audit-export=http://127.0.0.1:${port}/`],
      env: { ...process.env, LATCHKEY_DATABASE: await postgres.createDatabase('exports') },
    };
    const first = await startKeyServer(options);
    const second = await startKeyServer({ ...options, dataDirectory: first.dataDirectory });
    const client = adminClient(second, first.adminToken);
    const behind = async () => (await client.auditExports())[0]?.behind;
    try {
      for (let count = 0; count < 10; count += 1) await client.createCustomer({ name: `${count}` });
      await expect.poll(behind, PATIENTLY).toBe(0);
      await first.kill();
      for (let count = 0; count < 10; count += 1) await client.createCustomer({ name: `later ${count}` });
      await expect.poll(behind, PATIENTLY).toBe(0);
      const events = await auditLog(client);
      expect(received).toEqual(events);
      await verifyAuditLog(client.auditEvents());
    } finally {
      await second.dispose();
    }
  });
});
