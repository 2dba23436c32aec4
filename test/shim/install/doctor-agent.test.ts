import { describe, expect, test } from 'vitest';
import {
  type AgentCircumstances,
  type AgentFacts,
  agentFindings,
} from '../../../shim/install/doctor-agent.ts';
import { type StoreFacts, missingPrograms } from '../../../shim/install/doctor-store.ts';
import type { PlaintextStoreKind } from '../../../shim/snapshotter/plaintext-store.ts';

const NOW = Date.parse('2026-11-30T12:00:00Z');
const DAY_MS = 86_400_000;

const agent: AgentFacts = {
  version: '0.1.0',
  nodeKey: 'file',
  nodeId: 'node_1',
  keyServer: 'keys:7443',
  keyServerConnected: true,
  lastContactMs: NOW - 1000,
  certificateExpiresAtMs: NOW + 100 * DAY_MS,
  containerdVersion: '1.6.20',
  plaintextBytes: 10,
  plaintextCapacityBytes: 100,
  licenses: [{ licenseId: 'lic_1', state: 'ACTIVE' }],
  leases: [{ state: 'VALID' }],
};
const store: StoreFacts = { kind: 'memory', mount: 'answers', missingPrograms: [] };
const healthy: AgentCircumstances = {
  agent,
  agentSocket: '/run/latchkey/agent.sock',
  hasSnapshotterSocket: true,
  snapshotterSocket: '/run/latchkey/snapshotter.sock',
  needsContainerd: true,
  store,
  commandVersion: '0.1.0',
  nowMs: NOW,
  keyServerReachable: undefined,
};

/** `id severity` of everything that is not as it should be. */
function failing(change: Partial<AgentCircumstances>): string[] {
  return agentFindings({ ...healthy, ...change })
    .filter(({ severity }) => severity !== 'ok')
    .map(({ id, severity }) => `${id} ${severity}`);
}

test('a healthy agent has no finding, and says when it last heard of the key server', () => {
  expect(failing({})).toEqual([]);
  const details = agentFindings(healthy).map(({ detail }) => detail);
  expect(details.join('\n')).toContain('last contact 2026-11-30T11:59:59.000Z');
});

describe('a finding', () => {
  const away = { ...agent, keyServerConnected: false };
  const cases: readonly [string, Partial<AgentCircumstances>, string[]][] = [
    [
      'that the agent is away, without guesses at what only it knows',
      { agent: undefined },
      ['agent-not-running bad'],
    ],
    [
      'that the key server cannot be reached either',
      { agent: undefined, keyServerReachable: false },
      ['agent-not-running bad', 'key-server-away bad'],
    ],
    ['that the agent is of another version', { commandVersion: '0.2.0' }, ['agent-version warning']],
    [
      'that there is no snapshotter socket',
      { hasSnapshotterSocket: false },
      ['snapshotter-socket-missing bad'],
    ],
    [
      'that containerd is away',
      { agent: { ...agent, containerdVersion: '' } },
      ['containerd-unreachable bad'],
    ],
    ['that the store is not mounted', { store: { ...store, mount: 'missing' } }, ['store-not-mounted bad']],
    [
      'that the program of the volume has died',
      { store: { ...store, kind: 'encrypted-volume', mount: 'dead' } },
      ['store-dead bad'],
    ],
    [
      'that the store needs a program, whether the agent runs or not',
      { agent: undefined, store: { ...store, missingPrograms: ['mkfs.erofs'] } },
      ['store-program-missing bad', 'agent-not-running bad'],
    ],
    ['that the store is nearly full', { agent: { ...agent, plaintextBytes: 90 } }, ['store-full bad']],
    ['that the node is not activated', { agent: { ...agent, nodeId: '' } }, ['not-activated bad']],
    [
      'that the certificate ends soon',
      { agent: { ...agent, certificateExpiresAtMs: NOW + 3 * DAY_MS } },
      ['certificate-ends warning'],
    ],
    ['that it has ended', { agent: { ...agent, certificateExpiresAtMs: NOW - 1 } }, ['certificate-ends bad']],
    ['that the key server was away just now', { agent: away }, ['key-server-away warning']],
    [
      'that it is away for long',
      { agent: { ...away, lastContactMs: NOW - DAY_MS } },
      ['key-server-away bad'],
    ],
    [
      'that the clock is off, as the key server says',
      { agent: { ...agent, leases: [{ state: 'DENIED_CLOCK_SKEW' }] } },
      ['clock-off bad'],
    ],
    ['that the clock went back', { agent: { ...agent, lastContactMs: NOW + DAY_MS } }, ['clock-off bad']],
    [
      'that a license is refused',
      { agent: { ...agent, licenses: [{ licenseId: 'lic_1', state: 'DENIED_LICENSE_REVOKED' }] } },
      ['license-refused warning'],
    ],
  ];

  test.each(cases)('%s', (_case, change, expected) => {
    expect(failing(change)).toEqual(expected);
  });

  test.each(cases)('%s, says what to do', (_case, change) => {
    for (const { severity, mend, detail } of agentFindings({ ...healthy, ...change })) {
      expect(detail).not.toBe('');
      expect(mend === undefined).toBe(severity === 'ok');
    }
  });
});

test('modes without the snapshotter need neither its socket nor its store', () => {
  const change = { hasSnapshotterSocket: false, store: undefined };
  expect(failing(change)).toEqual([]);
});

test.each<[PlaintextStoreKind, string]>([
  ['memory', 'plaintext_capacity'],
  ['compressed-memory', 'plaintext_capacity'],
  ['encrypted-volume', 'volume_capacity'],
])('a full store of the kind %s says to raise %s', (kind, setting) => {
  const full = { ...agent, plaintextBytes: 95 };
  const findings = agentFindings({ ...healthy, agent: full, store: { ...store, kind } });
  expect(findings.find(({ id }) => id === 'store-full')?.mend).toContain(`raise ${setting} `);
});

test('each store needs its own programs, and of two that do the same one is enough', () => {
  const missing = (kind: PlaintextStoreKind, ...there: string[]) =>
    missingPrograms(kind, (name) => there.includes(name));
  expect(missing('memory')).toEqual([]);
  expect(missing('compressed-memory')).toEqual(['mkfs.erofs']);
  expect(missing('encrypted-volume')).toEqual(['mkfs.ext4', 'cryptsetup or gocryptfs']);
  expect(missing('encrypted-volume', 'mkfs.ext4', 'gocryptfs')).toEqual([]);
});
