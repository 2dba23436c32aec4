import { expect, test } from 'vitest';
import { StatusResponse } from '#src/wire/generated/latchkey/agent.ts';
import { MODE_MEANINGS, NODE_MODES } from '../../shim/agent/node-mode.ts';
import { nodeStatusText } from '../../cli/node-status-text.ts';

const NOW_MS = Date.UTC(2026, 10, 30, 12);
const MINUTE_MS = 60_000;

test('a node that is new says what it is, and shows no empty tables', () => {
  const text = nodeStatusText(StatusResponse.fromPartial({ keyServer: 'keys.acme:7442' }), NOW_MS);
  expect(text).toMatch(/^node +not activated$/m);
  expect(text).toMatch(/^last contact +never$/m);
  expect(text).toMatch(/^key server +keys\.acme:7442 \(not connected\)$/m);
  expect(text).toMatch(/^plaintext +no store is mounted that answers$/m);
  expect(text).not.toContain('LEASE');
});

test('each thing has its row, with times as dates and as distances', () => {
  const text = nodeStatusText(
    StatusResponse.fromPartial({
      nodeId: 'node-1',
      keyServerConnected: true,
      lastContactMs: NOW_MS - 3000,
      certificateExpiresAtMs: NOW_MS + 48 * 60 * MINUTE_MS,
      licenses: [
        { licenseId: 'lic-1', productCode: 'acme', state: 'ACTIVE', contact: 'sales@acme' },
        { licenseId: 'lic-2', productCode: 'acme', state: 'DENIED_LICENSE_REVOKED', plaintextGoneAtMs: 1 },
      ],
      leases: [
        { leaseId: 'lease-1', licenseId: 'lic-1', expiresAtMs: NOW_MS + 23 * MINUTE_MS, state: 'VALID' },
      ],
      images: [{ digest: `sha256:${'a'.repeat(64)}`, state: 'licensed', layers: 2, decryptedLayers: 1 }],
      containers: [
        {
          namespace: 'k8s.io',
          containerId: 'c1',
          pod: 'shop/web',
          image: 'acme:1',
          createdAtMs: NOW_MS,
          state: 'running',
        },
      ],
      denials: [
        { timeMs: NOW_MS - 2 * MINUTE_MS, code: 'DENIED_LICENSE_EXPIRED', licenseId: 'lic-1', key: 'k' },
      ],
    }),
    NOW_MS,
  );
  expect(text).toMatch(/^last contact +\S+ \(3 s ago\)$/m);
  expect(text).toMatch(/^certificate +ends \S+ \(in 2 d\)$/m);
  expect(text).toMatch(/^lic-2 +acme +DENIED_LICENSE_REVOKED, plaintext gone$/m);
  expect(text).toMatch(/^lease-1 +lic-1 +2026-11-30T12:23:00.000Z \(in 23 min\) /m);
  expect(text).toMatch(/^sha256:a{12} +- +- +licensed +1 of 2 layers/m);
  expect(text).toMatch(/^c1 +k8s.io +shop\/web +acme:1 .*running$/m);
  expect(text).toMatch(/\(2 min ago\) +DENIED_LICENSE_EXPIRED +lic-1 +k$/m);
});

test.each(NODE_MODES)('the mode %s is named, with what it protects and what it does not', (mode) => {
  const { protects, doesNotProtect } = MODE_MEANINGS[mode];
  const status = { mode, modeProtects: protects, modeDoesNotProtect: doesNotProtect };
  const lines = nodeStatusText(StatusResponse.fromPartial(status), NOW_MS).split('\n');
  const first = lines.findIndex((line) => line.startsWith('mode '));
  expect(lines.slice(first, first + 3).map((line) => line.split(/ {2,}/))).toEqual([
    ['mode', mode],
    ['protects', protects],
    ['does not', doesNotProtect],
  ]);
});

test('a name cannot steer the terminal', () => {
  const pod = 'x/\u001b[2Jy\nz';
  const text = nodeStatusText(
    StatusResponse.fromPartial({ containers: [{ containerId: 'c', pod }] }),
    NOW_MS,
  );
  expect(text).toContain('x/\\u001b[2Jy\\u000az');
  expect(text).not.toContain('\u001b');
});
