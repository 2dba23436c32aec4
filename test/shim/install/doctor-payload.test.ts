/** Which CRI sends a payload to decoders, by release and setting; layer-ways.test.ts looks at what arrives. */
import { expect, test } from 'vitest';
import { payloadFindings } from '../../../shim/install/doctor-payload.ts';

const KEY_MODEL = 'key_model';
const RELEASE = 'issue 10005';
const TRANSFER = 'transfer service';

const LOCAL = { use_local_image_pull: true };
/** As 2.x dumps it when nothing is set. */
const DEFAULTS = {
  disable_snapshot_annotations: true,
  discard_unpacked_layers: false,
  image_pull_with_sync_fs: false,
  max_concurrent_downloads: 3,
  use_local_image_pull: false,
  registry: { config_path: '/etc/containerd/certs.d', headers: { Agent: ['acme'] } },
};

function reasons(version: string, settings: object, keyModel = 'node'): string[] {
  const id = version.startsWith('1') ? 'io.containerd.grpc.v1.cri' : 'io.containerd.cri.v1.images';
  const images = { ...DEFAULTS, ...settings, image_decryption: { key_model: keyModel } };
  const findings = payloadFindings(version, { plugins: { [id]: images } });
  for (const finding of findings) expect(finding).toMatchObject({ id: 'payload-not-sent', severity: 'info' });
  return findings.map(({ detail }) => detail);
}

test.each<[string, object, string | undefined]>([
  ['1.6.20~ds1', {}, undefined],
  ['1.7.24', {}, undefined],
  ['2.0.9', LOCAL, RELEASE],
  ['2.1.6', LOCAL, RELEASE],
  ['2.1.7', LOCAL, undefined],
  ['2.1.7', {}, TRANSFER],
  ['v2.1.9+unknown', LOCAL, undefined],
  ['2.2.1', LOCAL, RELEASE],
  ['2.2.2', LOCAL, undefined],
  ['2.2.2', {}, TRANSFER],
  ['2.3.0', LOCAL, undefined],
  ['3.0.0', LOCAL, undefined],
  ['2.1.9', { disable_snapshot_annotations: false }, undefined],
  ['2.1.9', { discard_unpacked_layers: true }, undefined],
  ['2.1.9', { image_pull_with_sync_fs: true }, undefined],
  ['2.1.9', { max_concurrent_downloads: 5 }, undefined],
  ['2.1.9', { registry: { mirrors: { 'docker.io': { endpoint: ['http://x'] } } } }, undefined],
  ['2.1.9', { registry: { configs: { x: { auth: { username: 'a' } } } } }, undefined],
  ['2.1.9', { registry: { auths: { 'https://x': { username: 'a' } } } }, undefined],
  ['2.1.9', { registry: { mirrors: {}, configs: {} } }, TRANSFER],
])('containerd %s with %j: %s', (version, settings, reason) => {
  const expected = reason === undefined ? [] : [expect.stringContaining(reason) as string];
  expect(reasons(version, settings)).toEqual(expected);
});

test.each(['1.6.20', '1.7.24', '2.1.6', '2.1.9', '2.2.2'])(
  'containerd %s that is not to decrypt sends none',
  (version) => {
    const expected = [expect.stringContaining(KEY_MODEL) as string];
    expect(reasons(version, LOCAL, '')).toEqual(expected);
  },
);

test('of a CRI that is off nothing is said', () => {
  expect(payloadFindings('1.7.24', { plugins: {} })).toEqual([]);
  const off = { disabled_plugins: ['io.containerd.cri.v1.images'] };
  expect(payloadFindings('2.1.9', { ...off, plugins: { 'io.containerd.cri.v1.images': DEFAULTS } })).toEqual(
    [],
  );
});
