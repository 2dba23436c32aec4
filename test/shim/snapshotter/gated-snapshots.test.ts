import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LatchkeyError } from '#src/base/errors.ts';
import {
  type FakeLayer,
  fakeLayer,
  gateRecord,
  lowerDirectories,
  unpackInto,
  upperDirectory,
} from '../../fakes/scripted-gate.ts';
import { SnapshotterSite } from '../../fakes/snapshotter-site.ts';
import { temporaryDirectory } from '../../fakes/temporary-directory.ts';

const directory = temporaryDirectory();
const denial = new LatchkeyError('DENIED_LICENSE_REVOKED', 'the license was revoked', { licenseId: 'lic-1' });

let site: SnapshotterSite;
beforeEach(async () => {
  site = await SnapshotterSite.open(directory());
});
afterEach(() => site.close());

function code(value: string): unknown {
  return expect.objectContaining({ code: value });
}

/** Plain base, encrypted application layer above. */
async function gatedImage(): Promise<{ base: string; top: string; layer: FakeLayer }> {
  const base = await site.unpack(fakeLayer('base', 'plain'));
  const layer = fakeLayer('app', 'encrypted');
  return { base, top: await site.unpack(layer, base), layer };
}

function contentBelow(mounts: Parameters<typeof lowerDirectories>[0]): string[] {
  return lowerDirectories(mounts).map((lower) => readFileSync(join(lower, 'content'), 'utf8'));
}

describe('an encrypted layer', () => {
  test('lives in memory, its plain base on disk', async () => {
    const { base, top } = await gatedImage();
    expect(site.snapshotter.stat(base)).toMatchObject({ store: 'disk', gate: null });
    expect(site.snapshotter.stat(top)).toMatchObject({ store: 'memory', gate: gateRecord('app') });
    expect(readdirSync(site.roots.disk)).toHaveLength(1);
    expect(readdirSync(site.roots.memory)).toHaveLength(1);
    expect(site.gate.kept).toEqual([{ namespace: 'k8s.io', chainId: fakeLayer('app', 'encrypted').chainId }]);
  });

  test('is asked for when it is unpacked, and refused before a file is made', async () => {
    site.gate.denial = denial;
    await expect(site.prepareLayer(fakeLayer('app', 'encrypted'))).rejects.toBe(denial);
    expect(site.snapshotter.list()).toEqual([]);
    expect(readdirSync(site.roots.memory)).toEqual([]);
    expect(site.gate.ledger.unclaimed()).toEqual([]);
  });

  test('whose key was given but whose content did not verify cannot be committed', async () => {
    const layer = fakeLayer('app', 'encrypted');
    const { key } = await site.prepareLayer(layer);
    site.gate.decrypt(false);
    await expect(site.snapshotter.commit(site.key(layer.chainId), key, {})).rejects.toEqual(
      code('STATE_PRECONDITION'),
    );
    expect(site.snapshotter.stat(key).kind).toBe('active');
  });

  test('whose agent was restarted while it was unpacked cannot be committed, and is unpacked again', async () => {
    const layer = fakeLayer('app', 'encrypted');
    const { key } = await site.prepareLayer(layer);
    site.gate.decrypt();
    site.restart();
    await expect(site.snapshotter.commit(site.key(layer.chainId), key, {})).rejects.toEqual(
      code('STATE_PRECONDITION'),
    );
    await site.snapshotter.remove(key);
    expect(readdirSync(site.roots.memory)).toEqual([]);
    await site.unpack(layer);
  });

  test('removed in the middle of its unpacking leaves nothing to grant', async () => {
    const { key } = await site.prepareLayer(fakeLayer('app', 'encrypted'));
    expect(site.gate.ledger.unclaimed()).toHaveLength(1);
    await site.snapshotter.remove(key);
    expect(site.gate.ledger.unclaimed()).toEqual([]);
    expect(readdirSync(site.roots.memory)).toEqual([]);
  });

  test('that arrived as its plain twin moves to disk with all its files, and is not gated', async () => {
    const layer = fakeLayer('shared', 'encrypted-with-plain-twin');
    site.gate.denial = denial;
    const name = await site.unpack(layer);
    const snapshot = site.snapshotter.stat(name);
    expect(snapshot).toMatchObject({ store: 'disk', gate: null, layer: null });
    expect(readFileSync(join(site.directories.files(snapshot), 'content'), 'utf8')).toBe(
      layer.identity.layer.diffId,
    );
    expect(readdirSync(site.roots.memory)).toEqual([]);
    expect(readdirSync(site.roots.disk)).toEqual([String(snapshot.id)]);
    await site.snapshotter.prepare({ key: site.key('container'), parent: name, labels: {} });
  });

  test('that only others can open is refused before it is unpacked', async () => {
    const { chainId, identity } = fakeLayer('foreign', 'encrypted');
    await expect(site.prepareLayer({ chainId, identity: { ...identity, encryptedIn: [] } })).rejects.toEqual(
      code('KEY_NOT_FOUND'),
    );
    expect(site.snapshotter.list()).toEqual([]);
  });

  test('that cannot fit into memory is refused before it is unpacked', async () => {
    const { chainId, identity } = fakeLayer('huge', 'encrypted');
    const encryptedIn = identity.encryptedIn.map((gate) => ({
      ...gate,
      blob: { ...gate.blob, sizeBytes: 2 ** 52 },
    }));
    await expect(site.prepareLayer({ chainId, identity: { ...identity, encryptedIn } })).rejects.toEqual(
      code('STORAGE_FULL'),
    );
    expect(site.snapshotter.list()).toEqual([]);
    expect(readdirSync(site.roots.memory)).toEqual([]);
  });

  test('gates a plain layer above it too', async () => {
    const { top } = await gatedImage();
    const above = await site.unpack(fakeLayer('config', 'plain'), top);
    expect(site.snapshotter.stat(above)).toMatchObject({ store: 'memory', gate: null });
    site.gate.denial = denial;
    const request = { key: site.key('container'), parent: above, labels: {} };
    await expect(site.snapshotter.prepare(request)).rejects.toBe(denial);
  });
});

describe('a start', () => {
  test('is decided at Prepare, at every Mounts and at View', async () => {
    const { top, layer } = await gatedImage();
    site.gate.authorized.length = 0;
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: top, labels: {} });
    expect(site.gate.foreseen).toEqual([{ snapshotKey: key, topChainId: layer.chainId }]);
    await site.snapshotter.mounts(key);
    await site.snapshotter.mounts(key);
    await site.snapshotter.view({ key: site.key('view'), parent: top, labels: {} });
    // Once at Prepare; before and after the layers are made at each Mounts and View.
    expect(site.gate.authorized).toEqual(Array(7).fill([[gateRecord('app')]]));
    site.gate.denial = denial;
    site.gate.containerDenial = new LatchkeyError('DENIED_IMAGE_ALTERED', 'must not hide the license');
    const request = { key: site.key('other'), parent: top, labels: {} };
    await expect(site.snapshotter.mounts(key)).rejects.toBe(denial);
    await expect(site.snapshotter.prepare(request)).rejects.toBe(denial);
    await expect(site.snapshotter.view(request)).rejects.toBe(denial);
    expect(() => site.snapshotter.stat(request.key)).toThrow(`${request.key} does not exist`);
  });

  test('is refused when the license ends while the layers are being made', async () => {
    const { top } = await gatedImage();
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: top, labels: {} });
    await site.dropAll();
    const answer = site.snapshotter.mounts(key);
    site.gate.onApply = () => {
      site.gate.denial = denial;
    };
    await expect(answer).rejects.toBe(denial);
    expect(site.gate.refusedLateCount).toBe(1);
  });

  test('of what was unpacked but never committed asks for its own license', async () => {
    const { chainId, identity } = fakeLayer('unfinished', 'encrypted');
    const { key } = await site.prepareLayer({ chainId, identity });
    site.gate.denial = denial;
    await expect(site.snapshotter.mounts(key)).rejects.toBe(denial);
  });

  test('of a plain image asks nobody', async () => {
    const base = await site.unpack(fakeLayer('base', 'plain'));
    site.gate.denial = denial;
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: base, labels: {} });
    expect(contentBelow(await site.snapshotter.mounts(key))).toHaveLength(1);
    expect([...site.gate.authorized, ...site.gate.foreseen]).toEqual([]);
    expect(site.snapshotter.stat(key).store).toBe('disk');
  });

  test('of a gated image writes into memory only', async () => {
    const { top } = await gatedImage();
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: top, labels: {} });
    const mounts = await site.snapshotter.mounts(key);
    expect(upperDirectory(mounts).startsWith(site.roots.memory)).toBe(true);
    expect(mounts[0]?.options.find((option) => option.startsWith('workdir='))).toContain(site.roots.memory);
    expect(contentBelow(mounts)).toHaveLength(2);
  });
});

describe('dropped layers', () => {
  test('come back at Mounts, once, however many ask', async () => {
    const { top, layer } = await gatedImage();
    const keys = Array.from({ length: 10 }, (_, index) => site.key(`container-${index}`));
    for (const key of keys) await site.snapshotter.prepare({ key, parent: top, labels: {} });
    const snapshot = site.snapshotter.stat(top);
    expect(await site.keeper.drop(snapshot)).toBe(true);
    expect(existsSync(site.directories.files(snapshot))).toBe(false);
    const all = await Promise.all(keys.map((key) => site.snapshotter.mounts(key)));
    expect(site.gate.applied.map(({ layer: { digest } }) => digest)).toEqual([layer.identity.layer.digest]);
    for (const mounts of all) expect(contentBelow(mounts)[0]).toBe(layer.identity.layer.diffId);
    expect(site.gate.ledger.unclaimed()).toEqual([]);
  });

  test('come back from the base up after a reboot, and only the gated ones', async () => {
    const { base, top, layer } = await gatedImage();
    const second = fakeLayer('second', 'encrypted');
    const third = fakeLayer('third', 'plain');
    const name = await site.unpack(third, await site.unpack(second, top));
    site.restart();
    for (const entry of readdirSync(site.roots.memory)) {
      rmSync(join(site.roots.memory, entry), { recursive: true });
    }
    const mounts = await site.snapshotter.view({ key: site.key('view'), parent: name, labels: {} });
    expect(site.gate.applied.map(({ layer: { digest } }) => digest)).toEqual(
      [layer, second, third].map(({ identity }) => identity.layer.digest),
    );
    const baseFiles = site.directories.files(site.snapshotter.stat(base));
    expect(lowerDirectories(site.gate.applied[0]!.mounts)).toEqual([baseFiles]);
    expect(contentBelow(mounts)).toHaveLength(4);
  });

  test('are not made by Prepare of a container: others would wait for it', async () => {
    const { top } = await gatedImage();
    await site.keeper.drop(site.snapshotter.stat(top));
    await site.snapshotter.prepare({ key: site.key('container'), parent: top, labels: {} });
    expect(site.gate.applied).toEqual([]);
  });

  test('that fail to come back leave nothing, and come back the next time', async () => {
    const { top } = await gatedImage();
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: top, labels: {} });
    const snapshot = site.snapshotter.stat(top);
    await site.keeper.drop(snapshot);
    site.gate.applyFailure = new LatchkeyError('INPUT_DIGEST_MISMATCH', 'other content');
    await expect(site.snapshotter.mounts(key)).rejects.toEqual(code('INPUT_DIGEST_MISMATCH'));
    expect(existsSync(site.directories.files(snapshot))).toBe(false);
    expect(site.keeper.isPresent(snapshot)).toBe(false);
    expect(site.gate.ledger.unclaimed()).toEqual([]);
    site.gate.applyFailure = undefined;
    const [content] = contentBelow(await site.snapshotter.mounts(key));
    expect(content).toBe(snapshot.layer?.diffId);
    expect(site.gate.applied).toHaveLength(2);
  });

  test('half made at a crash are made again, not taken for whole', async () => {
    const { top } = await gatedImage();
    const snapshot = site.snapshotter.stat(top);
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: top, labels: {} });
    await site.keeper.drop(snapshot);
    site.directories.create(snapshot, undefined);
    await site.snapshotter.mounts(key);
    expect(site.gate.applied).toHaveLength(1);
    expect(site.keeper.isPresent(snapshot)).toBe(true);
  });

  test('whose blob is gone are damage, never NOT_FOUND, which containerd would answer by unpacking for ever', async () => {
    const { top } = await gatedImage();
    await site.keeper.drop(site.snapshotter.stat(top));
    site.gate.applyFailure = new LatchkeyError('STATE_NOT_FOUND', 'the encrypted layer is no longer here', {
      hint: 'pull the image again',
    });
    await expect(site.prepareLayer(fakeLayer('next', 'plain'), top)).rejects.toMatchObject({
      code: 'STATE_DAMAGED',
      message: 'the encrypted layer is no longer here',
      hint: 'pull the image again',
    });
  });

  test('that cannot be made again are not dropped', async () => {
    const { top } = await gatedImage();
    const key = site.key('container');
    await site.snapshotter.prepare({ key, parent: top, labels: {} });
    await unpackInto(await site.snapshotter.mounts(key), 'made by a container');
    const committed = site.key('committed-container');
    await site.snapshotter.commit(committed, key, {});
    const snapshot = site.snapshotter.stat(committed);
    expect(snapshot).toMatchObject({ store: 'memory', layer: null });
    expect(await site.keeper.drop(snapshot)).toBe(false);
    expect(site.keeper.isPresent(snapshot)).toBe(true);
    rmSync(join(site.roots.memory, String(snapshot.id)), { recursive: true });
    const view = { key: site.key('view'), parent: committed, labels: {} };
    await expect(site.snapshotter.view(view)).rejects.toEqual(code('STATE_DAMAGED'));
  });

  test('count as used from the moment a start asked for them', async () => {
    const { top } = await gatedImage();
    const snapshot = site.snapshotter.stat(top);
    site.clock.advance(5000);
    await site.snapshotter.view({ key: site.key('view'), parent: top, labels: {} });
    expect(site.keeper.lastUsedMs(snapshot)).toBe(site.clock.steadyMs);
  });
});
