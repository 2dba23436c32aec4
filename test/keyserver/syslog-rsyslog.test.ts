/** Copies of the audit log to a real rsyslog. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { type Rsyslog, startRsyslog } from '../../lab/rsyslog.ts';
import { adminClient, auditLog } from '../fakes/sold-product.ts';

/** For machines that are busy with other tests. */
const PATIENTLY = { timeout: 60_000 };

describe('rsyslog', () => {
  let rsyslog: Rsyslog;
  let server: TestKeyServer;

  beforeAll(async () => {
    rsyslog = await startRsyslog();
    server = await startKeyServer({
      args: [
        `--audit-export=syslog://127.0.0.1:${rsyslog.tcpPort}`,
        `--audit-export=syslog+tls://localhost:${rsyslog.tlsPort}#ca-file=${rsyslog.certificateFile}`,
        // The same receiver, whose certificate is for another name.
        `--audit-export=syslog+tls://127.0.0.1:${rsyslog.tlsPort}#ca-file=${rsyslog.certificateFile}`,
      ],
    });
  });

  afterAll(async () => {
    await server.dispose();
    await rsyslog.stop();
  });

  it('understands every event over TCP and TLS, and gets nothing where its name is not the right one', async () => {
    const client = adminClient(server);
    await client.createCustomer({ name: 'Initech' });
    const events = await auditLog(client);
    const messages = async () => (await rsyslog.messages()).map(({ msg }) => msg);
    await expect.poll(messages, PATIENTLY).toHaveLength(2 * events.length);
    const text = events.map((event) => JSON.stringify(event));
    expect((await messages()).toSorted()).toEqual([...text, ...text].toSorted());
    const [first] = await rsyslog.messages();
    expect(first).toMatchObject({ app: 'latchkey', msgid: events[0]?.action, pri: '109' });
    expect(first?.['sd']).toContain(`[meta sequenceId="1"][latchkey@32473 sequence="1" organizationId="`);
    const wrongName = async () =>
      (await client.auditExports()).find(({ name }) => name.startsWith('syslog+tls://127'));
    await expect
      .poll(wrongName, PATIENTLY)
      .toMatchObject({ position: 0, failure: expect.stringContaining('altnames') as string });
  });
});
