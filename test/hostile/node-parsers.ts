/** Parsers of what a node finds on its machine: settings of others, files of an earlier run, answers of its key server. */
import { X509Certificate, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseJson } from '#src/base/json.ts';
import { parseLeaseClaims } from '#src/licensing/lease-claims.ts';
import { digestOf } from '#src/oci/digest.ts';
import { certificateOf } from '../../shim/agent/certificate-rotation.ts';
import { parseKubeconfig } from '../../shim/agent/cluster-access.ts';
import { LicensedImages } from '../../shim/agent/licensed-images.ts';
import { NodeMemory } from '../../shim/agent/node-memory.ts';
import { SoftwareKey } from '../../shim/agent/software-key.ts';
import { type InstallationRecord, readRecord } from '../../shim/install/installation-record.ts';
import { installRequestSchema } from '../../shim/install/machine.ts';
import { checked } from '../../shim/install/main.ts';
import { mountPoints } from '../../shim/install/mounts.ts';
import { ociHookFault, ociHookFile } from '../../shim/install/oci-hook.ts';
import type { TomlChange } from '../../shim/install/toml-change.ts';
import { tomlItems } from '../../shim/install/toml-lines.ts';
import { parseToml, withChanges, withoutChanges } from '../../shim/install/toml-text.ts';
import { parseMountInfo } from '../../shim/snapshotter/mount-table.ts';
import { AUTHORITY_PEM } from '../fakes/authority.ts';
import { LeaseIssuer } from '../fakes/lease-issuer.ts';
import { manualClock } from '../fakes/manual-clock.ts';
import { type HostileParser, bytesParser, textParser } from './hostile-parser.ts';

const CONTAINERD_CONFIG = `version = 2
imports = [
  "a", # [not.a.table]
]
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs" # default
note = """
[plugins."x"]
"""
[proxy_plugins.latchkey]
type = 'snapshot'
`;
const CHANGES: readonly TomlChange[] = [
  {
    kind: 'set',
    table: ['plugins', 'io.containerd.grpc.v1.cri', 'containerd'],
    key: 'snapshotter',
    value: 'latchkey',
  },
  { kind: 'own', table: ['proxy_plugins', 'latchkey'], entries: { type: 'snapshot', address: '/s' } },
  { kind: 'append', table: ['plugins', 'transfer', 'unpack_config'], entries: { snapshotter: 'latchkey' } },
];
const KUBECONFIG = `current-context: c
contexts: [{ name: c, context: { cluster: k, user: u } }]
clusters: [{ name: k, cluster: { server: 'https://10.0.0.1:6443', certificate-authority-data: QQ== } }]
users: [{ name: u, user: { token: secret } }]
`;
const MOUNT_INFO = '36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext4 /dev/root rw,errors=continue\n';
const LEASE = new LeaseIssuer(manualClock()).claims({ imageDigest: digestOf('x'), imageKeyId: 'k' });
const LICENSED_IMAGES = {
  images: [{ imageDigest: digestOf('x'), imageKeyId: 'k', licenseId: 'lic_1', epoch: 1, onRevoke: 'stop' }],
};
const RECORD: InstallationRecord = {
  version: 1,
  mode: 'snapshotter',
  runtimeClass: null,
  containerd: { program: 'containerd', configPath: '/c.toml', version: '1.6.20', service: null },
  files: [{ path: '/c.toml', kind: 'edited', beforeSha256: null, backup: null, afterSha256: '0'.repeat(64) }],
  directories: ['/etc/latchkey'],
};
const INSTALL_REQUEST = { config: '/etc/latchkey/node.toml', mode: 'sweep', dryRun: true };

const privateKeyPem = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
  type: 'pkcs8',
  format: 'pem',
}) as string;
const key = new SoftwareKey(privateKeyPem, true);

/** Files are read from where they always are, so each input gets a directory of its own. */
async function inDirectory<Result>(use: (directory: string) => Result | Promise<Result>): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'latchkey-hostile-'));
  try {
    return await use(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function openMemory(directory: string): Promise<NodeMemory> {
  const failed = (error: unknown): never => {
    throw error;
  };
  const parts = { directory, key, clock: manualClock(), boot: 'boot', onWriteFailed: failed };
  return NodeMemory.open(parts);
}

const MEMORY_FILE = 'node-state.json';
const PLACE = { sequence: 7, token: 'token' };
const memoryFile = await inDirectory(async (directory) => {
  await (await openMemory(directory)).keepPlace(PLACE);
  return readFileSync(join(directory, MEMORY_FILE));
});

/** Only what this node has written counts; anything else is as good as no file. */
async function readMemory(bytes: Uint8Array): Promise<void> {
  const { place } = await inDirectory((directory) => {
    writeFileSync(join(directory, MEMORY_FILE), bytes, { mode: 0o600 });
    return openMemory(directory);
  });
  if (place.sequence !== 0 && place.sequence !== PLACE.sequence) throw new Error('a place that nobody wrote');
}

/** Whatever is put into a file can be taken out again. */
function changeAndTakeBack(text: string): void {
  const before = withoutChanges(text);
  if (withoutChanges(withChanges(text, CHANGES, 'config.toml')) !== before)
    throw new Error('the file of the operator is another one');
}

export const NODE_PARSERS: readonly HostileParser[] = [
  textParser(
    'src/licensing/lease-claims.ts',
    'parseLeaseClaims',
    [JSON.stringify({ ...LEASE, grace: { fromMs: 1, untilMs: 2 }, ignorable: ['a', 'b'], a: 1 })],
    (text) => parseLeaseClaims(parseJson(text, 'claims')),
  ),
  bytesParser(
    'shim/agent/certificate-rotation.ts',
    'certificateOf',
    [new X509Certificate(AUTHORITY_PEM).raw],
    (bytes) =>
      certificateOf({
        certificateDer: Buffer.from(bytes),
        certificateExpiresAtMs: 1,
        certificateRenewAtMs: 1,
      }),
  ),
  textParser('shim/agent/cluster-access.ts', 'parseKubeconfig', [KUBECONFIG], (text) =>
    parseKubeconfig(text, 'kubeconfig'),
  ),
  bytesParser(
    'shim/agent/licensed-images.ts',
    'LicensedImages',
    [Buffer.from(JSON.stringify(LICENSED_IMAGES))],
    (bytes) =>
      inDirectory((directory) => {
        writeFileSync(join(directory, 'images.json'), bytes);
        return new LicensedImages(join(directory, 'images.json')).ofLicense('lic_1');
      }),
  ),
  bytesParser('shim/agent/node-state.ts', 'NodeMemory', [memoryFile], readMemory),
  textParser('shim/install/installation-record.ts', 'readRecord', [JSON.stringify(RECORD)], (text) =>
    inDirectory((directory) => {
      writeFileSync(join(directory, 'installation.json'), text);
      return readRecord(directory);
    }),
  ),
  bytesParser(
    'shim/install/main.ts',
    'checked',
    [Buffer.from(JSON.stringify(INSTALL_REQUEST))],
    (bytes) => checked(installRequestSchema, parseJson(bytes, 'the request')),
    { isTyped: true },
  ),
  textParser('shim/install/mounts.ts', 'mountPoints', ['proc /proc proc rw,nosuid 0 0\n'], mountPoints),
  textParser('shim/install/oci-hook.ts', 'ociHookFault', [ociHookFile('/hook')], (text) =>
    ociHookFault(text, '/hook'),
  ),
  textParser('shim/install/toml-lines.ts', 'tomlItems', [CONTAINERD_CONFIG], (text) =>
    tomlItems(text.split('\n')),
  ),
  textParser('shim/install/toml-text.ts', 'parseToml', [CONTAINERD_CONFIG], (text) =>
    parseToml(text, 'config.toml'),
  ),
  textParser('shim/install/toml-text.ts', 'withChanges', [CONTAINERD_CONFIG], changeAndTakeBack),
  textParser('shim/snapshotter/mount-table.ts', 'parseMountInfo', [MOUNT_INFO], parseMountInfo),
];
