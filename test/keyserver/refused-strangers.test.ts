/** What is left of strangers in the audit log, and the way back in for whoever has become one. */
import { X509Certificate, generateKeyPairSync } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { AuditEntry } from '../../keyserver/audit/append-event.ts';
import { RefusalTally } from '../../keyserver/audit/refusal-tally.ts';
import { createAuthority } from '../../keyserver/custody/certificate-authority.ts';
import {
  MAX_TALLIED_ADDRESSES,
  RECOVERY_TOKEN_LIFETIME_MS,
  REFUSAL_AUDIT_INTERVAL_MS,
} from '../../keyserver/limits.ts';
import { startKeyServer } from '../../lab/keyserver.ts';
import { manualClock } from '../fakes/manual-clock.ts';
import { adminClient, auditLog } from '../fakes/sold-product.ts';

/** Of an authority that is not the key server's. */
async function foreignCertificate(): Promise<{ readonly cert: string; readonly key: string }> {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const cert = new X509Certificate(await createAuthority('Other', pair, Date.now())).toString();
  return { cert, key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
}

describe('refused strangers', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  function tallyOf(record?: () => Promise<void>) {
    vi.useFakeTimers();
    const entries: AuditEntry[] = [];
    const failures: unknown[] = [];
    const tally = new RefusalTally({
      clock: manualClock(),
      record: (entry) => {
        entries.push(entry);
        return record?.() ?? Promise.resolve();
      },
      onFailure: (error) => failures.push(error),
    });
    return { tally, entries, failures };
  }

  it('are one event of each kind in a minute, however many they are', async () => {
    const { tally, entries } = tallyOf();
    for (let count = 0; count < 5000; count += 1)
      tally.count('api-token', `203.0.${count >> 8}.${count & 255}`);
    for (const address of [
      '127.0.0.1',
      '::1',
      '::ffff:10.1.2.3',
      '192.168.7.7',
      '172.31.0.1',
      'fd00::1',
      'fe80::1%eth0',
    ])
      tally.count('node-handshake', address);
    for (const address of ['172.32.0.1', '100.128.0.1', '2001:db8::1', '2001:db8::2', ''])
      tally.count('node-handshake', address);
    expect(entries).toEqual([]);
    await vi.advanceTimersByTimeAsync(REFUSAL_AUDIT_INTERVAL_MS);
    expect(entries).toMatchObject([
      {
        ...{ action: 'access.refuse', target: 'api-token', outcome: 'denied', code: 'AUTH_REQUIRED' },
        detail: { count: 5000, public: 5000, addresses: MAX_TALLIED_ADDRESSES },
      },
      { target: 'node-handshake', detail: { count: 12, loopback: 2, private: 5, public: 5, addresses: 11 } },
    ]);
    await vi.advanceTimersByTimeAsync(10 * REFUSAL_AUDIT_INTERVAL_MS);
    expect(entries).toHaveLength(2);
    tally.count('api-token', '203.0.113.1');
    await vi.advanceTimersByTimeAsync(REFUSAL_AUDIT_INTERVAL_MS);
    expect(entries[2]).toMatchObject({ target: 'api-token', detail: { count: 1 } });
  });

  it('do no harm when the log cannot be written', async () => {
    const { tally, failures } = tallyOf(() => Promise.reject(new Error('full')));
    tally.count('api-token', '127.0.0.1');
    await tally.flush();
    expect(failures).toHaveLength(1);
  });

  it('are in the log of a key server at the latest when it stops', async () => {
    const server = await startKeyServer();
    const knocks = Array.from({ length: 5 }, () =>
      fetch(`${server.adminUrl}/v1/products`, { headers: { authorization: 'Bearer lkt_wrong' } }),
    );
    await Promise.all(knocks);
    for (const own of [{}, await foreignCertificate()]) {
      await new Promise<void>((resolve) => {
        const [host, port] = server.nodeAddress.split(':');
        const options = { host, port: Number(port), ALPNProtocols: ['h2'], rejectUnauthorized: false };
        const socket = tls.connect({ ...options, ...own });
        socket.on('error', () => undefined);
        socket.once('close', () => {
          resolve();
        });
      });
    }
    await server.stop();
    const again = await startKeyServer({ dataDirectory: server.dataDirectory });
    const events = (await auditLog(adminClient(again))).filter(({ action }) => action === 'access.refuse');
    expect(events).toMatchObject([
      { actor: 'system', target: 'api-token', detail: { count: 5, addresses: 1, loopback: 5 } },
      { actor: 'system', target: 'node-handshake', detail: { count: 2, addresses: 1, loopback: 2 } },
    ]);
    await again.dispose();
  });
});

describe('an administrator whose tokens are lost', () => {
  it('gets in with one that is made at a start, for a day, and on record', async () => {
    const server = await startKeyServer();
    await server.stop();
    const { dataDirectory } = server;
    const again = await startKeyServer({ dataDirectory, args: ['--new-admin-token'] });
    expect(again.adminToken).not.toBe(server.adminToken);
    expect((await stat(join(dataDirectory, 'admin.token'))).mode & 0o077).toBe(0);
    const client = adminClient(again);
    const event = (await auditLog(client)).find(({ action }) => action === 'token.recover')!;
    expect(event).toMatchObject({ actor: 'system', outcome: 'done' });
    const tokens = await client.tokens();
    const made = tokens.find(({ id }) => id === event.target)!;
    expect(made).toMatchObject({ permissionSet: 'admin', productId: null, customerId: null });
    expect(made.expiresAtMs! - made.createdAtMs).toBe(RECOVERY_TOKEN_LIFETIME_MS);
    // It takes nothing away, and can take away what was lost.
    expect(await adminClient(again, server.adminToken).tokens()).toHaveLength(2);
    expect(JSON.stringify(await auditLog(client)) + again.log()).not.toContain(again.adminToken);
    await again.stop();
    // A start without the option makes none.
    const later = await startKeyServer({ dataDirectory });
    expect(later.adminToken).toBe(again.adminToken);
    expect(await adminClient(later).tokens()).toHaveLength(2);
    await later.dispose();
  });
});
