import { describe, expect, test } from 'vitest';
import { agentPaths } from '../../../shim/agent/agent-config.ts';
import { type TomlTable, withLatchkey } from '../../../shim/install/containerd-config.ts';
import { type NodeFacts, diagnose } from '../../../shim/install/doctor.ts';

const paths = agentPaths('/var/lib/latchkey/node', '/run/latchkey');

function configuration(containerdVersion: string): TomlTable {
  return withLatchkey(
    {},
    {
      containerdVersion,
      snapshotterSocket: paths.snapshotterSocket,
      processor: { path: paths.processorProgram, args: [] },
      snapshotterRoot: paths.diskDirectory,
      platform: 'linux/amd64',
    },
  );
}

const agent = {
  nodeId: 'node-1',
  keyServer: 'keys:8443',
  keyServerConnected: true,
  containerdVersion: '1.6.20',
  plaintextBytes: 10,
  plaintextCapacityBytes: 100,
};
const healthy: NodeFacts = {
  paths,
  agent,
  containerdConfig: configuration('1.6.20'),
  containerdConfigPath: '/etc/containerd/config.toml',
  neverSwapped: true,
};

/** The checks that fail. */
function failing(facts: Partial<NodeFacts>): string[] {
  return diagnose({ ...healthy, ...facts })
    .filter(({ ok }) => !ok)
    .map(({ check }) => check);
}

test.each(['1.6.20', '1.7.24', '2.1.9'])(
  'a node as installed for containerd %s has no finding',
  (version) => {
    expect(failing({ containerdConfig: configuration(version) })).toEqual([]);
    for (const { mend } of diagnose(healthy)) expect(mend).toBeUndefined();
  },
);

describe('a finding', () => {
  const config = configuration('1.6.20');
  const foreign = { 'io.containerd.ocicrypt.decoder.v1.tar': { path: 'ctd-decoder' } };
  const cases: readonly [string, Partial<NodeFacts>, string[]][] = [
    ['that the agent is away, without guesses at what only it knows', { agent: undefined }, ['agent']],
    ['that containerd is away', { agent: { ...agent, containerdVersion: '' } }, ['containerd']],
    ['that the node is not activated', { agent: { ...agent, nodeId: '' } }, ['activation']],
    ['that the key server is away', { agent: { ...agent, keyServerConnected: false } }, ['key server']],
    ['that the store is nearly full', { agent: { ...agent, plaintextBytes: 90 } }, ['plaintext store']],
    ['that plaintext may be swapped', { neverSwapped: false }, ['swap']],
    [
      'that there is no configuration',
      { containerdConfig: undefined },
      ['snapshotter', 'stream processor', 'stream processor', 'stream processor', 'CRI'],
    ],
    [
      'that the snapshotter is not there',
      { containerdConfig: { ...config, proxy_plugins: {} } },
      ['snapshotter'],
    ],
    [
      'that the snapshotter is that of another agent',
      { containerdConfig: { ...config, proxy_plugins: { latchkey: { address: '/run/other.sock' } } } },
      ['snapshotter'],
    ],
    [
      'that a processor is another program',
      {
        containerdConfig: {
          ...config,
          stream_processors: { ...(config['stream_processors'] as object), ...foreign },
        },
      },
      ['stream processor'],
    ],
    ['that Kubernetes uses another snapshotter', { containerdConfig: { ...config, plugins: {} } }, ['CRI']],
    [
      'of anything in place of a table',
      { containerdConfig: { proxy_plugins: 7, plugins: 'x' } },
      ['snapshotter', 'stream processor', 'stream processor', 'stream processor', 'CRI'],
    ],
  ];

  test.each(cases)('%s', (_case, facts, expected) => {
    expect(failing(facts)).toEqual(expected);
  });

  test.each(cases)('%s, says what to do', (_case, facts) => {
    for (const { ok, mend, detail } of diagnose({ ...healthy, ...facts })) {
      expect(detail).not.toBe('');
      expect(mend === undefined).toBe(ok);
    }
  });
});
