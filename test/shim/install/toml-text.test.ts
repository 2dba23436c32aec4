import fc from 'fast-check';
import { parse } from 'smol-toml';
import { describe, expect, test } from 'vitest';
import { type TomlChange, changedTable } from '../../../shim/install/toml-change.ts';
import { withChanges, withoutChanges } from '../../../shim/install/toml-text.ts';

const CRI = 'io.containerd.grpc.v1.cri';
const SNAPSHOTTER: TomlChange = {
  kind: 'set',
  table: ['plugins', CRI, 'containerd'],
  key: 'snapshotter',
  value: 'latchkey',
};
const PROXY: TomlChange = {
  kind: 'own',
  table: ['proxy_plugins', 'latchkey'],
  entries: { type: 'snapshot', address: '/run/latchkey/snapshotter.sock' },
  tables: { exports: { root: '/var/lib/latchkey' } },
};
const UNPACK: TomlChange = {
  kind: 'append',
  table: ['plugins', 'transfer', 'unpack_config'],
  entries: { platform: 'linux/amd64', snapshotter: 'latchkey' },
};
const CHANGES = [SNAPSHOTTER, PROXY, UNPACK];

const FILES: Readonly<Record<string, string>> = {
  'an empty file': '',
  'comments only': '# nothing here\n\n',
  'an ordinary file': `# kept by the operator
version = 2 # two
root = "/data"

[plugins]
  [plugins."${CRI}"]
    sandbox_image = "registry.acme.example/pause:1" # ours

    # the registry
    [plugins."${CRI}".registry]
      config_path = "/etc/containerd/certs.d"
    [plugins."${CRI}".containerd]
      # chosen in 2023
      snapshotter = "overlayfs" # default
      default_runtime_name = "runc"
`,
  'a table without the setting': `[plugins."${CRI}".containerd]\nno_pivot = false\n`,
  'a header as its last word': `root = "/x"\n[plugins."${CRI}".containerd]`,
  'no end of line': 'version = 2\nroot = "/data"',
  'other line ends': `version = 2\r\n[plugins.'${CRI}'.containerd]\r\nsnapshotter = 'native'\r\n`,
  'dotted keys': `[plugins."${CRI}"]\ncontainerd.snapshotter = "native"\n`,
  'values of several lines': `imports = [\n  "a", # [not.a.table]\n  "b"\n]\nnote = """\n[plugins."${CRI}".containerd]\nsnapshotter = "no"\n"""\n[plugins."${CRI}".containerd]\nsnapshotter = '''over\nlay'''\nargs = [ "]",\n "#" ]\n`,
  'a table of our name': `[proxy_plugins]\n  [proxy_plugins.latchkey]\n  # old\n  address = "/old"\n  type = "snapshot"\n  [proxy_plugins.latchkey.exports]\n  root = "/old"\n  [proxy_plugins.stargz]\n  address = "/stargz"\n`,
  'a list that has another entry': `[[plugins.transfer.unpack_config]]\nplatform = "linux/arm64"\nsnapshotter = "native"\n`,
  'a table below ours first': `[plugins."${CRI}".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n`,
};

describe.each(Object.entries(FILES))('%s', (_name, text) => {
  const changed = withChanges(text, CHANGES, 'config.toml');

  test('says with the changes what a table with them says', () => {
    expect(parse(changed)).toEqual(changedTable(parse(text), CHANGES));
  });

  test('keeps every line that is not replaced, in order', () => {
    const lines = changed.split('\n').map((line) => line.replace('#latchkey# ', ''));
    let from = 0;
    for (const line of text.split('\n').filter((candidate) => candidate !== '')) {
      from = lines.indexOf(line, from) + 1;
      expect(from, line).toBeGreaterThan(0);
    }
  });

  test('is the same again without the changes, byte by byte', () => {
    expect(withoutChanges(changed)).toBe(text);
  });

  test('does not change a second time', () => {
    expect(withChanges(changed, CHANGES, 'config.toml')).toBe(changed);
  });

  test('keeps what the operator changes afterwards', () => {
    const after = withoutChanges(`${changed}# added later\n`);
    expect(after).toBe(`${text}${text === '' || text.endsWith('\n') ? '' : '\n'}# added later\n`);
  });
});

test('what is as it should be already is left alone', () => {
  const text = `[plugins."${CRI}".containerd]\nsnapshotter = "latchkey" # by hand\n`;
  expect(withChanges(text, [SNAPSHOTTER], 'config.toml')).toBe(text);
});

test.each([
  ['an inline table', `plugins = { "${CRI}" = { containerd = { snapshotter = "overlayfs" } } }\n`],
  [
    'an inline list',
    'plugins.transfer.unpack_config = [{ platform = "linux/arm64", snapshotter = "native" }]\n',
  ],
  ['dotted keys beside', `[plugins."${CRI}"]\ncontainerd.no_pivot = true\n`],
  ['a value in place of a table', 'plugins = 7\n'],
])('%s is refused, not broken', (_case, text) => {
  expect(() => withChanges(text, CHANGES, '/etc/c.toml')).toThrow(
    expect.objectContaining({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('/etc/c.toml') as string,
      hint: expect.stringContaining('[tables]') as string,
    }),
  );
});

test('whatever the file is, it is changed rightly or refused', () => {
  const lines = fc.constantFrom(
    ...Object.values(FILES).flatMap((text) => text.split('\n')),
    '"""',
    "'''",
    '[',
    ']',
    'x = """a',
    'x = [',
  );
  fc.assert(
    fc.property(fc.array(lines, { maxLength: 12 }), (chosen) => {
      const text = chosen.join('\n');
      let changed: string;
      try {
        changed = withChanges(text, CHANGES, 'config.toml');
      } catch (error) {
        expect(error).toMatchObject({ code: 'CONFIG_INVALID' });
        return;
      }
      expect(withoutChanges(changed)).toBe(text);
      expect(parse(changed)).toEqual(changedTable(parse(text), CHANGES));
    }),
    { numRuns: 500 },
  );
});

test('of a file that cannot be changed only the tables are named that are in the way', () => {
  const text = 'proxy_plugins = { other = { type = "snapshot" } }\n';
  let refusal: unknown;
  try {
    withChanges(text, CHANGES, 'config.toml');
  } catch (error) {
    refusal = error;
  }
  expect(refusal).toMatchObject({
    hint: 'write proxy_plugins.latchkey as ordinary [tables], one setting a line; nothing was changed',
  });
});
