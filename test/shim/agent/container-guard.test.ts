import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import type { StatementImage } from '#src/image/statement.ts';
import { chainIds } from '#src/oci/chain-id.ts';
import { type Digest, digestOf } from '#src/oci/digest.ts';
import { ContainerGuard } from '../../../shim/agent/container-guard.ts';
import { runnableEntries } from '../../../shim/agent/container-source.ts';
import type { HeldLease } from '../../../shim/agent/held-lease.ts';
import type { VolumeClaim } from '../../../shim/agent/volume-claims.ts';
import { nodePlatform } from '../../../shim/agent/node-platform.ts';
import type { ContainerRecord } from '../../../shim/containerd/containers.ts';
import { randomImage, statementOf } from '../../fakes/release-statement.ts';

const NAMESPACE = 'k8s.io';
const KEY = 'container-1';
const RELEASED = 'registry.example/acme:1';

let released: StatementImage;
let chain: Digest;
let containers: ContainerRecord[];
/** Name -> manifests; what is not in it is gone. */
let names: Map<string, Digest[]>;
let images: Map<Digest, StatementImage>;
/** Images on the chain that declare volumes. */
let withVolumes: VolumeClaim[] | undefined;
let volumesAsked: number;
let guard: ContainerGuard;

beforeEach(() => {
  released = randomImage('amd64', 'image-key');
  chain = chainIds(released.layers.flatMap(({ diffId }) => diffId ?? [])).at(-1)!;
  withVolumes = [];
  volumesAsked = 0;
  containers = [];
  names = new Map([[RELEASED, [released.manifest]]]);
  images = new Map([[released.manifest, released]]);
  const claims = { licenseId: 'lic_1', contact: 'sales@acme.example', imageDigest: released.manifest };
  const lease = { claims, statement: statementOf([released]) } as HeldLease;
  guard = new ContainerGuard(
    {
      containersOn: (_namespace, key) => Promise.resolve(key === KEY ? containers : []),
      manifestsOf: (_namespace, name) => Promise.resolve(names.get(name)),
      imagesOn: () => Promise.resolve([...images.values()]),
      volumesOn: () => {
        volumesAsked += 1;
        return withVolumes === undefined
          ? Promise.reject(new Error('containerd is away'))
          : Promise.resolve(withVolumes);
      },
      image: (digest) => Promise.resolve(images.get(digest)),
    },
    {
      findReleased: (_namespace, chainId, manifest) =>
        Promise.resolve(
          chainId === chain && (manifest === undefined || manifest === released.manifest) ? lease : undefined,
        ),
    },
    nodePlatform('x64'),
  );
});

function admit(wasAdmitted = false): Promise<boolean> {
  return guard.admit({ namespace: NAMESPACE, snapshotKey: KEY, topChainId: chain, wasAdmitted });
}

function addContainer(image: string, isKubernetes = false, config?: Digest): void {
  containers.push({ id: `c${containers.length}`, image, isKubernetes, config });
}

function claim(manifest: Digest, config?: Digest): VolumeClaim {
  return { manifest, config };
}

/** Layers that claim the released diff IDs for other blobs. */
function otherBlobs(): StatementImage['layers'] {
  return released.layers.map((layer) => ({ ...layer, digest: digestOf(randomBytes(8)) }));
}

/** An image of a stranger on the released layers. */
function addForeign(name: string, change: Partial<StatementImage> = {}): void {
  const manifest = digestOf(randomBytes(8));
  images.set(manifest, { ...released, manifest, ...change });
  names.set(name, [manifest]);
}

describe('a container on released layers', () => {
  test('is let in when its image is the released one', async () => {
    addContainer(RELEASED);
    await expect(admit()).resolves.toBe(true);
  });

  test('cannot be told before there is one', async () => {
    await expect(admit()).resolves.toBe(false);
  });

  test('is refused with an image of another config', async () => {
    addForeign('evil.example/x:1', { config: digestOf('evil config') });
    addContainer('evil.example/x:1');
    await expect(admit()).rejects.toMatchObject({
      code: 'DENIED_IMAGE_ALTERED',
      licenseId: 'lic_1',
      contact: 'sales@acme.example',
      message: expect.stringMatching(
        /evil\.example\/x:1: the config sha256:\w+ is not the released one/,
      ) as string,
    });
  });

  test('is refused with an image that copies the config around other layers', async () => {
    addForeign('evil.example/x:1', { layers: otherBlobs() });
    addContainer('evil.example/x:1');
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
  });

  test('is refused when any container on the snapshot is of another image', async () => {
    addForeign('evil.example/x:1', { config: digestOf('evil config') });
    addContainer(RELEASED);
    addContainer('evil.example/x:1');
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
  });

  test('is refused without an image, and with one for another platform only', async () => {
    addContainer('');
    await expect(admit()).rejects.toMatchObject({
      message: expect.stringContaining('the container names no image') as string,
    });
    containers = [];
    names.set('multi:1', []);
    addContainer('multi:1');
    await expect(admit()).rejects.toMatchObject({
      message: expect.stringContaining('multi:1 is not for this platform') as string,
    });
  });

  test('of several manifests under one name is refused when any on its layers is not the released one', async () => {
    addForeign('evil.example/x:1', { config: digestOf('evil config') });
    names.set('mixed:1', [...names.get('evil.example/x:1')!, released.manifest]);
    addContainer('mixed:1');
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
  });

  test('may have a name that stands for images on other layers as well, for other platforms', async () => {
    addForeign('other:1', { layers: randomImage('386').layers });
    names.set('multi:1', [released.manifest, ...names.get('other:1')!]);
    addContainer('multi:1');
    await expect(admit()).resolves.toBe(true);
    names.set('multi:1', names.get('other:1')!);
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
  });

  test('is refused beside a manifest that nobody here can read', async () => {
    names.set('unreadable:1', [released.manifest, digestOf('unreadable')]);
    addContainer('unreadable:1');
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
  });

  test('is refused when it was made from another config than its name stands for now', async () => {
    addContainer(RELEASED, true, released.config);
    await expect(admit()).resolves.toBe(true);
    addContainer(RELEASED, true, digestOf('evil config'));
    await expect(admit()).rejects.toMatchObject({
      message: expect.stringContaining('made from another image than') as string,
    });
  });

  test('that is there when its mounts are asked for first is told by itself, whatever volumes others claim', async () => {
    const foreign = digestOf('a manifest');
    withVolumes = [claim(foreign)];
    addContainer(RELEASED);
    await expect(admit()).resolves.toBe(true);
    containers = [];
    await expect(admit()).rejects.toMatchObject({
      message: expect.stringContaining(`${foreign} has its layers and declares volumes`) as string,
    });
  });

  test('that is not there yet is refused while a stranger’s image has volumes in its layers', async () => {
    withVolumes = [claim(released.manifest)];
    await expect(admit()).resolves.toBe(false);
    withVolumes = [claim(digestOf('evil'))];
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
    await expect(admit(true)).resolves.toBe(false);
  });

  test('that is not there yet waits for no image with the released config, as one encrypted for others has', async () => {
    withVolumes = [claim(digestOf('rewrapped'), released.config)];
    await expect(admit()).resolves.toBe(false);
    for (const config of [digestOf('evil config'), undefined]) {
      withVolumes = [claim(digestOf('evil'), config)];
      await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
    }
  });

  test('that was foreseen is judged by what was asked ahead', async () => {
    withVolumes = [claim(digestOf('evil'))];
    guard.foresee({ namespace: NAMESPACE, snapshotKey: KEY, topChainId: chain });
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
    expect(volumesAsked).toBe(1);
    withVolumes = undefined;
    guard.foresee({ namespace: NAMESPACE, snapshotKey: KEY, topChainId: chain });
    await expect(admit()).rejects.toThrow('containerd is away');
    guard.foresee({ namespace: NAMESPACE, snapshotKey: KEY, topChainId: chain });
    withVolumes = [claim(digestOf('evil'))];
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
  });

  test('is refused when the name that the last one had was given to another image, or it has another name', async () => {
    await admit();
    addContainer(RELEASED);
    await expect(admit()).resolves.toBe(true);
    addForeign('evil.example/x:1', { config: digestOf('evil config') });
    names.set(RELEASED, names.get('evil.example/x:1')!);
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
    names.set(RELEASED, [released.manifest]);
    addContainer('evil.example/x:1');
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
    containers.pop();
    await expect(admit()).resolves.toBe(true);
  });

  test('whose image is gone is let in only if it was before', async () => {
    addContainer('gone:1');
    await expect(admit()).rejects.toMatchObject({
      message: expect.stringContaining('the node has no image named gone:1') as string,
    });
    await expect(admit(true)).resolves.toBe(true);
  });
});

describe('Kubernetes, which knows an image by its config', () => {
  test('may have another name for the released config while the released image is there', async () => {
    addForeign('evil.example/x:1', { layers: otherBlobs() });
    addContainer('evil.example/x:1', true);
    await expect(admit()).resolves.toBe(true);
    images.delete(released.manifest);
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
  });

  test('gets no other config in', async () => {
    addForeign('evil.example/x:1', { config: digestOf('evil config') });
    addContainer('evil.example/x:1', true);
    await expect(admit()).rejects.toMatchObject({ code: 'DENIED_IMAGE_ALTERED' });
  });
});

describe('the entries of an index for this node', () => {
  const entry = (platform?: { os: string; architecture: string }) => ({
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: digestOf(JSON.stringify(platform ?? null)),
    size: 1,
    ...(platform === undefined ? {} : { platform }),
  });
  const own = entry({ os: 'linux', architecture: 'amd64' });
  const other = entry({ os: 'linux', architecture: 'arm64' });
  const nameless = entry();

  test('are those of its platform, of one it runs as well, and those without one', () => {
    const platform = nodePlatform('x64');
    const compatible = entry({ os: 'linux', architecture: '386' });
    const entries = [other, nameless, compatible, own, entry({ os: 'windows', architecture: 'amd64' })];
    expect(runnableEntries(entries, platform)).toEqual([nameless, compatible, own]);
    expect(runnableEntries([other], platform)).toEqual([]);
  });
});
