import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { webhookEvent, webhookUrl } from '#src/wire/admin/webhook.ts';
import { isPublicAddress, publicLookup, requirePublicUrl } from '../../keyserver/webhook/public-address.ts';
import {
  isWanted,
  webhookMessage,
  webhookSecretText,
  webhookType,
} from '../../keyserver/webhook/webhook-message.ts';

const EVENT: AuditEvent = {
  sequence: 7,
  organizationId: 'org_1',
  timeMs: 1_795_328_511_600,
  actor: 'token:token_1',
  action: 'license.revoke',
  target: 'lic_1',
  outcome: 'done',
  code: null,
  detail: { reason: 'hmac:x' },
  previousHash: '0'.repeat(64),
  hash: 'ab'.repeat(32),
};

describe('a webhook message', () => {
  it('is signed as a receiver by Standard Webhooks verifies it, and carries no detail', () => {
    const text = webhookSecretText(Buffer.alloc(32, 7));
    const { headers, body } = webhookMessage(EVENT, Buffer.alloc(32, 7), 1_795_328_600_999);
    // As the libraries do: the secret without its prefix is base64.
    const key = Buffer.from(text.replace(/^whsec_/u, ''), 'base64');
    const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body.toString()}`;
    const signature = createHmac('sha256', key).update(signed).digest('base64');
    expect(headers).toEqual({
      'content-type': 'application/json',
      'webhook-id': 'org_1-7',
      'webhook-timestamp': '1795328600',
      'webhook-signature': `v1,${signature}`,
    });
    expect(JSON.parse(body.toString())).toEqual({
      type: 'license.revoke',
      timestamp: new Date(EVENT.timeMs).toISOString(),
      data: {
        sequence: 7,
        organizationId: 'org_1',
        actor: 'token:token_1',
        action: 'license.revoke',
        target: 'lic_1',
        outcome: 'done',
        code: null,
      },
    });
  });

  it('is of a kind that patterns name', () => {
    const denied = webhookType({ action: 'lease.acquire', outcome: 'denied' });
    expect(denied).toBe('lease.acquire.denied');
    const wants = (pattern: string, type: string) => isWanted(type, [pattern]);
    expect(wants('lease.acquire', denied)).toBe(false);
    expect(wants('lease.*', denied)).toBe(true);
    expect(wants('*', denied)).toBe(true);
    expect(wants('lease.acquire', 'lease.acquire')).toBe(true);
    expect(wants('license.*', denied)).toBe(false);
    expect(isWanted(denied, ['license.*', 'lease.acquire.denied'])).toBe(true);
  });

  it.each(['', 'License.revoke', '**', 'license.**', 'license', 'a b', '.', 'license.', '*.revoke'])(
    'patterns that name nothing are refused: %j',
    (text) => {
      expect(webhookEvent.safeParse(text).success).toBe(false);
    },
  );

  it.each([
    'ftp://a.example',
    'https://u:p@a.example',
    'https://a.example/#x',
    'a.example',
    `https://a.example/${'x'.repeat(3000)}`,
  ])('is not sent to %s', (url) => {
    expect(webhookUrl.safeParse(url).success).toBe(false);
  });
});

describe('addresses of the internet', () => {
  it.each([
    ...[
      '127.0.0.1',
      '10.1.2.3',
      '172.16.0.1',
      '172.31.255.255',
      '192.168.1.1',
      '169.254.169.254',
      '100.64.0.1',
    ],
    ...['0.0.0.0', '224.0.0.1', '255.255.255.255', '198.18.0.1', '192.0.2.1', '198.51.100.1', '203.0.113.1'],
    ...['::1', '::', 'fe80::1', 'fc00::1', 'fd00:ec2::254', 'ff02::1', '::ffff:127.0.0.1', '::ffff:a00:1'],
    ...['64:ff9b::a00:1', '2002:7f00:1::', '2001:db8::1', '2001::1', '::127.0.0.1', 'localhost', ''],
  ])('%s is none', (address) => {
    expect(isPublicAddress(address)).toBe(false);
  });

  it.each(['1.1.1.1', '93.184.216.34', '172.32.0.1', '2606:4700:4700::1111', '2a00:1450:4001::1'])(
    '%s is one',
    (address) => {
      expect(isPublicAddress(address)).toBe(true);
    },
  );

  it('are never found in what is written otherwise', () => {
    // As URLs write them: decimal, octal, hexadecimal and short forms come out as the address that they mean.
    for (const host of ['2130706433', '0177.0.0.1', '0x7f.1', '127.1', '[::ffff:127.0.0.1]', '[::1]']) {
      expect(() => {
        requirePublicUrl(new URL(`https://${host}/`));
      }).toThrow(/not an address of the internet/u);
    }
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        const mapped = `::ffff:${address}`;
        expect(isPublicAddress(mapped)).toBe(false);
      }),
    );
  });

  it('are what a name has to lead to, when it is connected to', async () => {
    const error = await new Promise((resolve) => {
      publicLookup('localhost', { all: true }, resolve);
    });
    expect(error).toMatchObject({ code: 'NET_UNREACHABLE' });
  });
});
