import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { tokensOf } from '#src/crypto/open-token.ts';
import { signToken, signTogether } from '#src/crypto/sign-token.ts';
import { verifyAuditLog } from '../../cli/audit-log.ts';
import {
  type KeptReceipt,
  againstReceipts,
  readReceiptKeys,
  readReceipts,
} from '../../cli/audit-receipts.ts';
import { type TestKeyServer, startKeyServer } from '../../lab/keyserver.ts';
import { changeServerDatabase } from '../../lab/server-database.ts';
import { listed, rechained } from '../fakes/audit-chain.ts';
import { runLatchkey } from '../fakes/command-line.ts';
import { activateNode } from '../fakes/licensed-node.ts';
import { adminClient, auditLog, createSoldProduct } from '../fakes/sold-product.ts';

let directory: string;
let server: TestKeyServer;
let exported: string;
let receiptFile: string;
let keyFile: string;
let tokens: string[];
let events: AuditEvent[];
let receipts: KeptReceipt[];

const latchkey = (...args: string[]) =>
  runLatchkey(args, {
    directory,
    env: { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: server.adminToken },
  });

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'latchkey-receipts-'));
  [exported, receiptFile, keyFile] = ['audit.jsonl', 'node.json', 'receipts.key'].map((name) =>
    join(directory, name),
  ) as [string, string, string];
  server = await startKeyServer();
  const sold = await createSoldProduct(server);
  const { licenseKey } = await sold.sell();
  const node = await activateNode(server, licenseKey);
  const first = await node.acquire(sold.image);
  const payload = JSON.parse(Buffer.from(first.lease.split('.')[1] ?? '', 'base64url').toString()) as {
    leaseId: string;
    receipt: { sequence: number };
  };
  expect(payload.receipt.sequence).toBe(first.auditSequence);
  await sold.sell();
  const { results } = await node.renew([payload.leaseId]);
  const [renewed] = results;
  if (renewed?.outcome?.$case !== 'lease') throw new Error('the lease was not renewed');
  // One that shares its signature, and one that does not.
  tokens = [renewed.outcome.value, first.lease];
  node.close();
  await sold.sell();
  events = await auditLog(sold.client);
  // As a node prints them, with what else it says of its leases.
  const leases = tokens.map((token) => ({ leaseId: 'not looked at', auditSequence: 99, token }));
  await writeFile(receiptFile, JSON.stringify({ nodeId: 'node_1', leases }, null, 2));
  await writeFile(exported, events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  await writeFile(keyFile, (await latchkey('audit', 'key', '--receipts')).stdout);
  receipts = await readReceipts(receiptFile, await readReceiptKeys(keyFile));
});

afterAll(async () => {
  await server.dispose();
  await rm(directory, { recursive: true, force: true });
});

const verdict = (log: AsyncIterable<AuditEvent>) =>
  verifyAuditLog(againstReceipts(log, receipts)).then(
    () => 'verified',
    (error: unknown) => (error as Error).message,
  );

describe('leases as receipts of the audit log', () => {
  it('are in the export, each where it says', async () => {
    expect(receipts.map(({ sequence }) => events[sequence - 1]?.action)).toEqual([
      'lease.renew',
      'lease.acquire',
    ]);
    const verified = await latchkey(
      'audit',
      'verify',
      exported,
      '--receipts',
      receiptFile,
      '--receipt-key',
      keyFile,
    );
    expect(verified).toMatchObject({ status: 0, stderr: '' });
    expect(verified.stdout).toContain('and holds 2 receipt(s)');
    await writeFile(join(directory, 'lines'), tokens.join('\n'));
    expect(await readReceipts(join(directory, 'lines'), await readReceiptKeys(keyFile))).toEqual(receipts);
  });

  it('show that an event was taken out and the chain computed anew', async () => {
    const [renewal, acquisition] = receipts;
    for (const receipt of [renewal!, acquisition!]) {
      const without = rechained(events.filter(({ sequence }) => sequence !== receipt.sequence));
      expect((await verifyAuditLog(listed(without))).sequence).toBe(events.length - 1);
      expect(await verdict(listed(without))).toContain(
        `event ${receipt.sequence} is not the one of ${receipt.leaseId}`,
      );
    }
  });

  it.each(['actor', 'target', 'outcome', 'action'] as const)(
    'show that %s of an earlier event was changed',
    async (field) => {
      const changed = rechained(
        events.map((event) => (event.sequence === 2 ? { ...event, [field]: 'x' } : event)),
      );
      expect(await verdict(listed(changed))).toContain(`event ${receipts[1]!.sequence} is not the one of`);
    },
  );

  it('show that the end was removed', async () => {
    const last = receipts[0]!;
    expect(await verdict(listed(events.slice(0, last.sequence)))).toBe('verified');
    expect(await verdict(listed(events.slice(0, last.sequence - 1)))).toContain(
      `event ${last.sequence} is missing (the log ends, but ${last.leaseId} is event ${last.sequence})`,
    );
  });

  it('count only when the key server has signed them', async () => {
    const keys = await readReceiptKeys(keyFile);
    const stranger = generateKeyPairSync('ed25519').privateKey;
    const claims = JSON.parse(Buffer.from(tokens[1]!.split('.')[1]!, 'base64url').toString()) as object;
    const path = join(directory, 'forged');
    const changed = tokens[1]!.replace(
      /\.[^.]+\./u,
      `.${Buffer.from(JSON.stringify({ ...claims, epoch: 9 })).toString('base64url')}.`,
    );
    const [shared = ''] = tokensOf(signTogether('lease-list+jwt', [JSON.stringify(claims)], stranger));
    const exchanged = `${tokens[0]!.split('~')[0]}~${shared.split('~')[1]}`;
    const alone = signToken('lease+jwt', JSON.stringify(claims), stranger);
    for (const forged of [alone, shared, exchanged, changed, 'not a token']) {
      await writeFile(path, forged);
      await expect(readReceipts(path, keys)).rejects.toMatchObject({ code: 'STATE_DAMAGED' });
    }
    // What a newer key server says besides is not for the auditor.
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    await writeFile(
      path,
      signToken('lease+jwt', JSON.stringify({ ...claims, onlyOnWeekdays: true }), privateKey),
    );
    expect(await readReceipts(path, [publicKey])).toEqual([receipts[1]]);
    for (const text of ['{"leases":[{}]}', '{', '{"leases":{}}']) {
      await writeFile(path, text);
      await expect(readReceipts(path, keys)).rejects.toMatchObject({ code: 'INPUT_MALFORMED' });
    }
    for (const text of ['', '{"leases":[]}']) {
      await writeFile(path, text);
      await expect(readReceipts(path, keys)).rejects.toMatchObject({ code: 'STATE_NOT_FOUND' });
    }
    for (const text of ['{}', 'x', await readFile(exported, 'utf8')]) {
      await writeFile(path, text);
      await expect(readReceiptKeys(path)).rejects.toMatchObject({ code: 'KEY_INVALID' });
    }
    const keyless = await latchkey('audit', 'verify', exported, '--receipts', receiptFile);
    expect(keyless).toMatchObject({ status: 2, stderr: expect.stringContaining('--receipt-key') as string });
  });
});

it('a database that was set back lacks the event of a receipt', async () => {
  await server.stop();
  const lost = `DELETE FROM audit_event WHERE sequence >= ${receipts[1]!.sequence}`;
  await changeServerDatabase(server.dataDirectory, lost);
  server = await startKeyServer({ dataDirectory: server.dataDirectory });
  const found = await verdict(adminClient(server).auditEvents());
  expect(found).toContain(`event ${receipts[1]!.sequence} is missing`);
});
