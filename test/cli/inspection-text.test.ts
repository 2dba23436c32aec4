/** The tree of `latchkey inspect`. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readImageGraph } from '#src/image/image-graph.ts';
import { inspectImage } from '#src/image/inspect.ts';
import { MEDIA_TYPE } from '#src/oci/media-types.ts';
import { createMemoryStore } from '#src/store/memory.ts';
import { inspectionText } from '../../cli/inspection-text.ts';
import { formatTree } from '../../cli/tree.ts';
import { storeAttestedImage } from '../fakes/attested-image.ts';
import { realLayer, storeRealImage } from '../image/real-image.ts';
import { type RoundTrip, openRoundTrip } from '../image/round-trip.ts';

const plainSink = { write: () => undefined };
const terminal = { write: () => undefined, isTTY: true };

let trip: RoundTrip;
beforeEach(async () => (trip = await openRoundTrip()));
afterEach(() => trip.dispose());

test('a tree is drawn with its branches', () => {
  const tree = {
    text: 'a',
    children: [
      { text: 'b', children: [{ text: 'c' }] },
      { text: 'd', children: [{ text: 'e' }] },
    ],
  };
  expect(formatTree(tree)).toBe('a\n├─ b\n│  └─ c\n└─ d\n   └─ e\n');
});

describe('an image', () => {
  test('is shown from platforms to recipients, with what is visible', async () => {
    await storeAttestedImage(trip.source);
    await trip.encrypt({ attestations: 'encrypt' });
    const inspection = await inspectImage(await readImageGraph(trip.encrypted, 'v1'));
    const text = inspectionText(inspection, plainSink);
    expect(text).toMatch(/├─ linux\/amd64 {2}sha256:/);
    expect(text).toMatch(/layers: 1 of 1 encrypted, [\d.]+ KiB of [\d.]+ KiB/);
    expect(text).toMatch(/0 .* encrypted {2}sha256:.*tar\+gzip\+encrypted\n.*└─ for jwe\n/);
    expect(text).toMatch(/env\n.*GREETING=visible/);
    expect(text).toMatch(/history\n.*test\n/);
    expect(text).toMatch(/diff IDs .*\n.*0 {2}sha256:/);
    expect(text).toMatch(/attestation: SBOM, provenance of linux\/arm64 {2}sha256:/);
    expect(text).not.toContain('\u001b');
    expect(inspection.artifacts).toMatchObject([
      {
        isAttestation: true,
        aboutPlatform: 'linux/amd64',
        documents: [{ isEncrypted: true }, { isEncrypted: true }],
      },
      { isAttestation: true, aboutPlatform: 'linux/arm64' },
    ]);
  });

  test('is shown with all that its documents say, whatever the field', async () => {
    const store = createMemoryStore();
    const layer = await realLayer(MEDIA_TYPE.ociLayer);
    const noted = { ...layer, descriptor: { ...layer.descriptor, annotations: { 'acme.layer': 'base' } } };
    const config = {
      author: 'jane',
      comment: 'built on host 7',
      'com.acme.field': { deep: 1 },
      config: { User: 'app', WorkingDir: '/srv', ExposedPorts: { '80/tcp': {} }, StopSignal: 'SIGQUIT' },
    };
    await storeRealImage(store, [noted], { tag: 'v1', config });
    const text = inspectionText(await inspectImage(await readImageGraph(store, 'v1')), plainSink);
    for (const shown of [
      'author="jane"',
      'comment="built on host 7"',
      'com.acme.field={"deep":1}',
      'User="app"',
      'WorkingDir="/srv"',
      'ExposedPorts={"80/tcp":{}}',
      'StopSignal="SIGQUIT"',
      'acme.layer=base',
    ]) {
      expect(text).toContain(shown);
    }
    expect(text).not.toContain('rootfs=');
  });

  test('shows what runs in it and its labels', async () => {
    const store = createMemoryStore();
    const config = {
      config: {
        Entrypoint: ['/app', 'serve'],
        Cmd: ['--port', '80'],
        Labels: { vendor: 'acme', tier: 'web' },
      },
    };
    await storeRealImage(store, [await realLayer(MEDIA_TYPE.ociLayer)], { tag: 'v1', config });
    const text = inspectionText(await inspectImage(await readImageGraph(store, 'v1')), plainSink);
    expect(text).toMatch(/─ entrypoint\n.*─ \/app serve\n/);
    expect(text).toMatch(/─ cmd\n.*─ --port 80\n/);
    expect(text).toMatch(/─ labels\n.*─ vendor=acme\n.*─ tier=web\n/);
  });

  test('is coloured on a terminal only', async () => {
    const store = createMemoryStore();
    await storeRealImage(store, [await realLayer(MEDIA_TYPE.ociLayer)], { tag: 'v1' });
    const inspection = await inspectImage(await readImageGraph(store, 'v1'));
    expect(inspectionText(inspection, terminal)).toContain('\u001b[');
    expect(inspectionText(inspection, plainSink)).not.toContain('\u001b[');
  });

  test('shows what looks like a secret without its value in that list', async () => {
    const store = createMemoryStore();
    const config = { config: { Env: ['DB_PASSWORD=hunter2'] } };
    await storeRealImage(store, [await realLayer(MEDIA_TYPE.ociLayer)], { tag: 'v1', config });
    const inspection = await inspectImage(await readImageGraph(store, 'v1'));
    expect(inspectionText(inspection, plainSink)).toMatch(
      /looks like a secret.*\n.*linux\/amd64 Env DB_PASSWORD \(/,
    );
  });

  test('of a stranger cannot steer the terminal', async () => {
    const hostile = '\u001b[2J\u009b31m\r\n\u2028x';
    const store = createMemoryStore();
    const layer = await realLayer(MEDIA_TYPE.ociLayer);
    const odd = { ...layer, descriptor: { ...layer.descriptor, mediaType: `${hostile}+encrypted` } };
    const config = {
      architecture: hostile,
      config: { Env: [hostile], Cmd: [hostile], Entrypoint: [hostile], Labels: { [hostile]: hostile } },
      history: [{ created_by: hostile, comment: hostile }],
    };
    const manifest = { annotations: { [hostile]: hostile } };
    await storeRealImage(store, [layer, odd], { tag: 'v1', config, manifest });
    const text = inspectionText(await inspectImage(await readImageGraph(store, 'v1')), plainSink);
    expect(text.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\u2028]/u);
    expect(text).toContain('for nobody');
  });
});
