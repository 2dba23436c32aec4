import { describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import { agentPaths, parseAgentConfig } from '../../../shim/agent/agent-config.ts';

const REQUIRED = {
  key_server: '"keys.acme.example:8443"',
  enrollment: '"keys.acme.example:8444"',
  authority_file: '"/etc/latchkey/authority.pem"',
};

function document(settings: Readonly<Record<string, string | undefined>>): string {
  return Object.entries<string | undefined>({ ...REQUIRED, ...settings })
    .flatMap(([name, value]) => (value === undefined ? [] : [`${name} = ${value}`]))
    .join('\n');
}

function refusal(text: string): LatchkeyError {
  try {
    parseAgentConfig(text, 'node.toml');
  } catch (error) {
    if (error instanceof LatchkeyError) return error;
    throw error;
  }
  return expect.fail('the configuration was taken');
}

test('three settings are enough; the others have defaults', () => {
  const config = parseAgentConfig(document({}), 'node.toml');
  expect(config).toMatchObject({
    keyServerAddress: 'keys.acme.example:8443',
    enrollmentAddress: 'keys.acme.example:8444',
    authorityFile: '/etc/latchkey/authority.pem',
    mode: 'snapshotter',
    containerdAddress: '/run/containerd/containerd.sock',
    store: { kind: 'memory', memoryCapacity: '50%' },
    dropAtShutdown: false,
    idleDropAfterMs: 600_000,
    stopGraceMs: 10_000,
    paths: agentPaths('/var/lib/latchkey/node', '/run/latchkey'),
  });
});

test('every setting is taken', () => {
  const text = document({
    containerd_address: '"/run/k3s/containerd/containerd.sock"',
    state_directory: '"/data/latchkey"',
    runtime_directory: '"/run/other"',
    node_name: '"worker-7"',
    plaintext_capacity: '"2g"',
    plaintext_store: '"encrypted-volume"',
    volume_capacity: '"3T"',
    volume_path: '"/data/volume"',
    drop_at_shutdown: 'true',
    idle_drop_seconds: '60',
    stop_grace_seconds: '0',
  });
  const config = parseAgentConfig(text, 'node.toml');
  expect(config).toMatchObject({ nodeName: 'worker-7', dropAtShutdown: true, idleDropAfterMs: 60_000 });
  expect(config.stopGraceMs).toBe(0);
  expect(config.store).toEqual({
    kind: 'encrypted-volume',
    directory: '/data/latchkey/plaintext',
    memoryCapacity: '2g',
    volumeCapacityBytes: 3 * 1024 ** 4,
    volumeFile: '/data/volume',
  });
  expect(config.paths).toEqual(agentPaths('/data/latchkey', '/run/other'));
});

describe('the node key', () => {
  const uri = 'pkcs11:token=t;object=k?module-name=softhsm2&pin-source=file:/etc/latchkey/pin';

  test('is in a file unless a token is named', () => {
    expect(parseAgentConfig(document({}), 'node.toml').nodeKey).toBeUndefined();
    expect(parseAgentConfig(document({ node_key: JSON.stringify(uri) }), 'node.toml').nodeKey).toMatchObject({
      ...{ token: 't', object: 'k', moduleName: 'softhsm2', pinSource: '/etc/latchkey/pin' },
    });
  });

  test.each([
    ['file', 'does not start with pkcs11:'],
    ['pkcs11:token=t;object=k?pin-source=/pin', 'names no module'],
    ['pkcs11:token=t;id=%01?module-name=m&pin-source=/pin', 'needs object= and pin-source='],
    ['pkcs11:token=t;object=k?module-name=m', 'needs object= and pin-source='],
    ['pkcs11:token=t;object=k?module-name=m&pin-source=/pin&pin-value=1234', 'and no PIN'],
  ])('is not %j', (wrong, reason) => {
    let error: unknown;
    try {
      parseAgentConfig(document({ node_key: JSON.stringify(wrong) }), 'node.toml');
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/^node\.toml: node_key/u) as string,
    });
    expect(String(error)).toContain(reason);
    expect(String(error)).not.toContain('1234');
  });
});

describe('addresses', () => {
  test.each(['localhost:1', '127.0.0.1:8443', '[::1]:8443', 'key-server:65535'])('%s is one', (address) => {
    const text = document({ key_server: `"${address}"`, enrollment: `"${address}"` });
    expect(parseAgentConfig(text, 'node.toml').keyServerAddress).toBe(address);
  });

  test('any free port will do to listen on', () => {
    const text = document({ metrics_listen: '"127.0.0.1:0"' });
    expect(parseAgentConfig(text, 'node.toml').metricsListen).toBe('127.0.0.1:0');
  });
});

describe('a wrong setting is named in one line', () => {
  test.each([
    ['key_server', undefined],
    ['key_server', '"keys.acme.example"'],
    ['key_server', '"https://keys.acme.example:8443"'],
    ['key_server', '"keys acme:1"'],
    ['key_server', '"::1:8443"'],
    ['key_server', '"keys:123456"'],
    ['key_server', '"keys:65536"'],
    ['key_server', '"keys:0"'],
    ['metrics_listen', '"127.0.0.1:65536"'],
    ['enrollment', undefined],
    ['enrollment', '8444'],
    ['authority_file', undefined],
    ['authority_file', 'true'],
    ['mode', '"open"'],
    ['mode', 'true'],
    ['node_name', '""'],
    ['node_name', `"${'n'.repeat(254)}"`],
    ['plaintext_capacity', '"lots"'],
    ['plaintext_capacity', '"-1g"'],
    ['plaintext_capacity', '"0"'],
    ['plaintext_capacity', '"0%"'],
    ['plaintext_capacity', '"50%,exec"'],
    ['plaintext_capacity', '2'],
    ['plaintext_store', '"disk"'],
    ['volume_capacity', '"50%"'],
    ['volume_capacity', '"0"'],
    ['volume_path', '"volume"'],
    ['drop_at_shutdown', '"yes"'],
    ['idle_drop_seconds', '0'],
    ['idle_drop_seconds', '1.5'],
    ['idle_drop_seconds', '"60"'],
    ['stop_grace_seconds', '-1'],
    ['stop_grace_seconds', '3000000'],
    ['state_directory', '[]'],
    ['licence_server', '"misspelt"'],
  ])('%s = %s', (name, value) => {
    const error = refusal(document({ [name]: value }));
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.message).toContain('node.toml: ');
    expect(error.message).toContain(name);
    expect(error.line).not.toContain('\n');
  });

  test.each(['key_server = ', '= 1', '[', 'key_server = "a:1"\nkey_server = "b:1"', '\u0000'])(
    'a file that is not TOML: %j',
    (text) => {
      const error = refusal(text);
      expect(error.code).toBe('CONFIG_INVALID');
      expect(error.line).toMatch(/^CONFIG_INVALID: node\.toml: .+/);
      expect(error.line).not.toContain('\n');
    },
  );
});

describe('the key provider', () => {
  const withSocket = (socket: string) => `${document({})}\n[key_provider]\nsocket = ${socket}`;

  test('is off unless it has a socket', () => {
    expect(parseAgentConfig(document({}), 'node.toml').keyProviderSocket).toBeUndefined();
    const config = parseAgentConfig(withSocket('"/run/latchkey/key-provider.sock"'), 'node.toml');
    expect(config.keyProviderSocket).toBe('/run/latchkey/key-provider.sock');
  });

  test.each(['"relative.sock"', '""', '7', `"/${'x'.repeat(80)}"`])('has no socket like %s', (socket) => {
    expect(refusal(withSocket(socket)).message).toContain('key_provider.socket');
  });

  test('has no settings but its socket', () => {
    expect(refusal(`${withSocket('"/run/kp.sock"')}\nmode = "0666"`).message).toContain('mode');
  });
});

test('an encrypted volume without a size is refused, with an example', () => {
  expect(refusal(document({ plaintext_store: '"encrypted-volume"' }))).toMatchObject({
    code: 'CONFIG_INVALID',
    hint: 'set volume_capacity, for example to 100g',
  });
});
