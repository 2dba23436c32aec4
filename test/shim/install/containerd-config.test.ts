import { parse, stringify } from 'smol-toml';
import { describe, expect, test } from 'vitest';
import type { NodeMode } from '../../../shim/agent/node-mode.ts';
import {
  type TomlTable,
  parseContainerdVersion,
  processorIds,
  withLatchkey,
} from '../../../shim/install/containerd-config.ts';

const gate = {
  snapshotterSocket: '/run/latchkey/snapshotter.sock',
  processor: { path: '/var/lib/latchkey/node/latchkey-processor', args: [] },
  snapshotterRoot: '/var/lib/latchkey/node/snapshots',
  platform: 'linux/amd64',
};

function configure(containerdVersion: string, toml = ''): TomlTable {
  return withLatchkey(parse(toml), { ...gate, containerdVersion });
}

const VERSIONS = [
  ['1.6.20~ds1', 2],
  ['1.7.24', 2],
  ['v2.1.9', 3],
] as const;

describe.each(VERSIONS)('for containerd %s', (containerdVersion, configVersion) => {
  test('registers the snapshotter and the processors that CRI sends its payload to', () => {
    const config = configure(containerdVersion);
    expect(config['version']).toBe(configVersion);
    expect(config['proxy_plugins']).toMatchObject({
      latchkey: { type: 'snapshot', address: gate.snapshotterSocket },
    });
    expect(config['stream_processors']).toEqual({
      'io.containerd.ocicrypt.decoder.v1.tar': {
        accepts: [
          'application/vnd.oci.image.layer.v1.tar+encrypted',
          'application/vnd.oci.image.layer.nondistributable.v1.tar+encrypted',
        ],
        returns: 'application/vnd.oci.image.layer.v1.tar',
        path: gate.processor.path,
        args: [],
        env: [],
      },
      'io.containerd.ocicrypt.decoder.v1.tar.gzip': {
        accepts: [
          'application/vnd.oci.image.layer.v1.tar+gzip+encrypted',
          'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip+encrypted',
        ],
        returns: 'application/vnd.oci.image.layer.v1.tar+gzip',
        path: gate.processor.path,
        args: [],
        env: [],
      },
      'io.containerd.ocicrypt.decoder.v1.tar.zstd': {
        accepts: [
          'application/vnd.oci.image.layer.v1.tar+zstd+encrypted',
          'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd+encrypted',
        ],
        returns: 'application/vnd.oci.image.layer.v1.tar+zstd',
        path: gate.processor.path,
        args: [],
        env: [],
      },
    });
    expect(Object.keys(config['stream_processors'] as object)).toEqual(processorIds());
  });

  test('gives the same when applied again, through a file too', () => {
    const once = configure(containerdVersion, `version = ${configVersion}\nroot = "/data"`);
    expect(withLatchkey(once, { ...gate, containerdVersion })).toEqual(once);
    expect(configure(containerdVersion, stringify(once))).toEqual(once);
  });

  test('keeps everything else, and does not change what it is given', () => {
    const toml = `
      version = ${configVersion}
      root = "/data/containerd"
      oom_score = -999
      [grpc]
        address = "/run/containerd/containerd.sock"
      [proxy_plugins.stargz]
        type = "snapshot"
        address = "/run/stargz.sock"
      [stream_processors."io.acme.decoder"]
        path = "acme-decoder"
        accepts = ["application/acme"]
      [timeouts]
        "io.containerd.timeout.shim.cleanup" = "5s"
      [plugins."io.containerd.grpc.v1.cri"]
        sandbox_image = "registry.k8s.io/pause:3.9"
      [plugins."io.containerd.grpc.v1.cri".containerd]
        default_runtime_name = "runc"
        snapshotter = "overlayfs"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.images".pinned_images]
        sandbox = "registry.k8s.io/pause:3.10"`;
    const before = parse(toml);
    const after = withLatchkey(before, { ...gate, containerdVersion });
    expect(before).toEqual(parse(toml));
    const { plugins, ...rest } = before as { plugins: Record<string, TomlTable> };
    expect(after).toMatchObject(rest);
    expect(after['plugins']).toMatchObject({
      'io.containerd.grpc.v1.cri': {
        sandbox_image: 'registry.k8s.io/pause:3.9',
        containerd: {
          default_runtime_name: 'runc',
          runtimes: { runc: { runtime_type: 'io.containerd.runc.v2' } },
        },
      },
      'io.containerd.cri.v1.images': plugins['io.containerd.cri.v1.images']!,
    });
  });
});

describe('the syntax of each version', () => {
  test('1.6 has no exports, 1.7 and later do', () => {
    const proxy = (version: string) =>
      (configure(version)['proxy_plugins'] as Record<string, TomlTable>)['latchkey'];
    expect(proxy('1.6.20')).not.toHaveProperty('exports');
    expect(proxy('1.7.0')).toMatchObject({ exports: { root: gate.snapshotterRoot } });
    expect(proxy('2.0.1')).toMatchObject({ exports: { root: gate.snapshotterRoot } });
  });

  test('1.x sets CRI’s snapshotter, its annotations and the payload', () => {
    expect(configure('1.6.20')['plugins']).toEqual({
      'io.containerd.grpc.v1.cri': {
        containerd: { snapshotter: 'latchkey', disable_snapshot_annotations: false },
        image_decryption: { key_model: 'node' },
      },
    });
  });

  test('2.x sets the image plugin, and the transfer service with the default beside', () => {
    expect(configure('2.1.9')['plugins']).toEqual({
      'io.containerd.cri.v1.images': {
        snapshotter: 'latchkey',
        disable_snapshot_annotations: false,
        image_decryption: { key_model: 'node' },
      },
      'io.containerd.transfer.v1.local': {
        unpack_config: [
          { platform: 'linux/amd64', snapshotter: 'latchkey' },
          { platform: 'linux/amd64', snapshotter: 'overlayfs' },
        ],
      },
    });
  });
});

describe('what cannot be kept is refused', () => {
  test.each([
    [
      '1.6.20',
      'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\ndiscard_unpacked_layers = true',
    ],
    ['2.1.9', 'version = 3\n[plugins."io.containerd.cri.v1.images"]\ndiscard_unpacked_layers = true'],
  ])('on %s, layers that are thrown away once unpacked', (version, toml) => {
    expect(() => configure(version, toml)).toThrow(
      expect.objectContaining({
        code: 'CONFIG_INVALID',
        message: expect.stringContaining('discard_unpacked_layers') as string,
      }),
    );
    expect(configure(version, toml.replace('true', 'false'))).toBeDefined();
  });

  test.each([
    ['1.7.24', 'version = 3\nroot = "/data"'],
    ['1.7.24', 'version = "two"\nroot = "/data"'],
    ['2.1.9', 'version = 4\nroot = "/data"'],
  ])('on %s, a file of a version that it does not read: %s', (version, toml) => {
    expect(() => configure(version, toml)).toThrow(
      expect.objectContaining({
        code: 'CONFIG_INVALID',
        message: expect.stringContaining('version') as string,
      }),
    );
  });

  test.each([
    ['1.6.20', 'version = 1'],
    ['2.1.9', 'version = 2'],
    ['2.1.9', ''],
  ])('on %s, but not a file that says nothing more: %j', (version, toml) => {
    expect(configure(version, toml)['version']).toBe(version.startsWith('1') ? 2 : 3);
  });
});

describe('the version', () => {
  test.each([
    ['containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+b1', 1, 6],
    ['containerd github.com/containerd/containerd v1.7.24 88bf19b2105c8b17560993bee28a01ddc2f97182', 1, 7],
    ['containerd github.com/containerd/containerd/v2 v2.1.9 1c4457e00facac03ce1d75f7b6777a7a851e5c41', 2, 1],
    ['1.10.0', 1, 10],
    ['3.0.0-rc.1', 3, 0],
  ])('of %s', (text, major, minor) => {
    expect(parseContainerdVersion(text)).toEqual({ major, minor });
  });

  test.each(['1.5.18', '0.2.4', '', 'unknown', 'v1', '1.4.13~ds1'])('%j is not supported', (text) => {
    expect(() => parseContainerdVersion(text)).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID', hint: 'Latchkey needs containerd 1.6 or later' }),
    );
  });
});

describe('older files', () => {
  test('of version 1 get the tables of version 1', () => {
    const config = configure('1.6.20', 'disabled_plugins = ["x"]\n[plugins.cri]\nsandbox_image = "pause"');
    expect(config).not.toHaveProperty('version');
    expect(config['plugins']).toEqual({
      cri: {
        sandbox_image: 'pause',
        containerd: { snapshotter: 'latchkey', disable_snapshot_annotations: false },
        image_decryption: { key_model: 'node' },
      },
    });
  });

  test('of version 2 get the tables of version 3 on a 2.x, which survive its migration', () => {
    const config = configure(
      '2.1.9',
      'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "p"',
    );
    expect(config['version']).toBe(2);
    expect(config['plugins']).toMatchObject({
      'io.containerd.grpc.v1.cri': { sandbox_image: 'p' },
      'io.containerd.cri.v1.images': { snapshotter: 'latchkey' },
    });
  });

  test('that name a snapshotter themselves get it changed there too, since it would win', () => {
    const text = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "native"';
    expect(configure('2.1.9', text)['plugins']).toMatchObject({
      'io.containerd.grpc.v1.cri': { containerd: { snapshotter: 'latchkey' } },
      'io.containerd.cri.v1.images': { snapshotter: 'latchkey' },
    });
  });
});

describe('the modes', () => {
  const like = {
    name: 'crun',
    table: {
      runtime_type: 'io.containerd.runc.v2',
      base_runtime_spec: '',
      snapshotter: '',
      pod_annotations: [],
      options: { SystemdCgroup: true, BinaryName: '', IoUid: 0 },
    },
  };
  const inMode = (mode: NodeMode, containerdVersion: string, toml = '') =>
    withLatchkey(parse(toml), { ...gate, containerdVersion, mode, runtimeClass: { name: 'sealed', like } });
  const runtime = {
    runtime_type: 'io.containerd.runc.v2',
    snapshotter: 'latchkey',
    options: { SystemdCgroup: true },
  };

  test('a runtime class is like the default runtime, and CRI keeps its snapshotter', () => {
    const two = inMode('runtime-class', '1.7.24')['plugins'] as Record<string, TomlTable>;
    // The first runtime that a 1.x is told of replaces those that it has by itself.
    const crun = { runtime_type: runtime.runtime_type, options: runtime.options };
    expect(two['io.containerd.grpc.v1.cri']?.['containerd']).toEqual({ runtimes: { crun, sealed: runtime } });
    const three = inMode('runtime-class', '2.1.9')['plugins'] as Record<string, TomlTable>;
    expect(three['io.containerd.cri.v1.runtime']).toEqual({ containerd: { runtimes: { sealed: runtime } } });
    expect(three['io.containerd.cri.v1.images']).not.toHaveProperty('snapshotter');
  });

  test('a runtime class stands beside the runtimes of an older file, which others would replace', () => {
    const text =
      'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"';
    const plugins = inMode('runtime-class', '2.1.9', text)['plugins'] as Record<string, TomlTable>;
    expect(plugins['io.containerd.grpc.v1.cri']).toMatchObject({
      containerd: { runtimes: { sealed: runtime } },
    });
    expect(plugins).not.toHaveProperty(['io.containerd.cri.v1.runtime']);
  });

  test('a runtime class is refused on 1.6, which has one snapshotter for all', () => {
    expect(() => inMode('runtime-class', '1.6.20')).toThrow(/1\.6 has one snapshotter/);
  });

  test('sweep sets the processors only, hook nothing', () => {
    expect(Object.keys(inMode('sweep', '1.6.20'))).toEqual(['version', 'stream_processors', 'plugins']);
    expect(JSON.stringify(inMode('sweep', '2.1.9'))).not.toContain('snapshotter');
    expect(inMode('hook', '1.6.20', 'root = "/x"')).toEqual({ root: '/x' });
  });
});
