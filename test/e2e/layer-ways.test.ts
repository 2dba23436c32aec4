/**
 * Every way in which a client can have a layer unpacked, for every type of layer. containerd says a different amount in
 * each: over the transfer service, with ctr and at the creation of a container it sends a processor nothing at all.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ContainerdVersion } from '../../lab/containerd-versions.ts';
import { describeOnEachContainerd } from './each-containerd.ts';
import { GatedSite, SECRET, releaseSecretImage, secretLayer } from './gated-site.ts';

const COMPRESSIONS = ['none', 'gzip', 'zstd'] as const;

interface Way {
  readonly name: string;
  /** Whether CRI sends the processor what it knows; for zstd it never does, which has no ID that it would send it to. */
  readonly sendsPayload: boolean;
  /** Has the image unpacked. */
  unpack(gated: GatedSite): Promise<void>;
}

const WITH_CRI: Omit<Way, 'sendsPayload'> = {
  name: 'CRI',
  unpack: async (gated) => {
    await gated.site.cri.pullImage(gated.site.reference('types'));
  },
};

const AT_CREATE: Way = {
  name: 'CRI when it creates a container',
  sendsPayload: false,
  unpack: async (gated) => {
    await gated.site.cri.pullImage(gated.site.reference('types'));
    await removeSnapshots(gated, 'k8s.io');
    const pod = await gated.site.cri.runPod('create', gated.site.reference('types'));
    await gated.site.cri.removePod(pod.sandboxId);
  },
};

function withCtr(name: string, ...options: readonly string[]): Way {
  return {
    name,
    sendsPayload: false,
    unpack: async (gated) => {
      const pull = ['images', 'pull', ...options, '--plain-http', '--snapshotter', 'latchkey'];
      expect(await gated.ctr(...pull, gated.site.reference('types'))).toMatchObject({ status: 0 });
    },
  };
}

/** From 1.7 on `ctr` asks containerd's transfer service unless it is told not to. */
function waysOf(containerd: ContainerdVersion): readonly Way[] {
  if (containerd === '1.6') return [{ ...WITH_CRI, sendsPayload: true }, withCtr('ctr'), AT_CREATE];
  return [
    { ...WITH_CRI, sendsPayload: true },
    withCtr('ctr over the transfer service'),
    withCtr('ctr pulling locally', '--local'),
    AT_CREATE,
  ];
}

describeOnEachContainerd('ways to unpack', (containerd) => {
  let gated: GatedSite;

  beforeAll(async () => {
    gated = await startWithTypes({ containerd });
  });
  afterAll(async () => {
    await gated.stop();
  });

  test.each(waysOf(containerd))('$name: tar, gzip and zstd', (way) => expectUnpacked(gated, way));

  if (containerd === '2') {
    test('CRI over the transfer service: tar, gzip and zstd', async () => {
      const transferring = await startWithTypes({ containerd, pullsOverTransfer: true });
      try {
        await expectUnpacked(transferring, { ...WITH_CRI, sendsPayload: false });
      } finally {
        await transferring.stop();
      }
    });
  }
});

async function startWithTypes(options: Parameters<typeof GatedSite.start>[0]): Promise<GatedSite> {
  const gated = await GatedSite.start(options);
  await releaseSecretImage(
    gated.site,
    'types',
    COMPRESSIONS.map((compression) => secretLayer(compression, compression)),
  );
  await gated.activate();
  return gated;
}

/** Unpacks in one way, then reads every layer's file in a container, and forgets the image again. */
async function expectUnpacked(gated: GatedSite, way: Way): Promise<void> {
  const before = (await decryptedLayers(gated)).length;
  await way.unpack(gated);
  const decrypted = (await decryptedLayers(gated)).slice(before);
  const payloads = decrypted.slice(-COMPRESSIONS.length).map(({ hasPayload }) => hasPayload);
  expect(payloads).toEqual(COMPRESSIONS.map((compression) => way.sendsPayload && compression !== 'zstd'));
  const namespace = way.name.startsWith('CRI') ? 'k8s.io' : 'default';
  await expectReadable(gated, way);
  await gated.site.containerd.ctr(['images', 'rm', '--sync', gated.site.reference('types')], namespace);
  await removeSnapshots(gated, namespace);
}

async function expectReadable(gated: GatedSite, way: Way): Promise<void> {
  const image = gated.site.reference('types');
  const paths = COMPRESSIONS.map((compression) => `/app/${compression}.txt`);
  if (!way.name.startsWith('CRI')) {
    for (const path of paths) {
      expect((await gated.printWithCtr('reader', image, path)).output).toContain(SECRET);
    }
    return;
  }
  const pod = await gated.site.cri.runPod('reader', image);
  const { output } = await gated.site.cri.execSync(pod.containerId, ['/bin/busybox', 'cat', ...paths]);
  for (const compression of COMPRESSIONS) expect(output).toContain(`${SECRET} ${compression}`);
  await gated.site.cri.removePod(pod.sandboxId);
}

/** What the agent has written down about layers so far. */
async function decryptedLayers(gated: GatedSite): Promise<{ hasPayload: boolean }[]> {
  return (await gated.site.agent.log())
    .split('\n')
    .filter((line) => line.includes('"layer decrypted"'))
    .map((line) => JSON.parse(line) as { hasPayload: boolean });
}

/** Removes the gated layers of a namespace through containerd, topmost first, so that they have to be unpacked again. */
async function removeSnapshots(gated: GatedSite, namespace: string): Promise<void> {
  for (;;) {
    const list = ['snapshots', '--snapshotter', 'latchkey', 'list'];
    const { output } = await gated.site.containerd.ctr(list, namespace);
    const committed = output.split('\n').filter((line) => line.includes('Committed'));
    if (!committed.some((line) => /sha256:\w+\s+sha256:/.test(line))) return;
    // containerd's garbage collector may be at it too.
    const remove = ['snapshots', '--snapshotter', 'latchkey', 'remove', gated.topChainId(committed)];
    await gated.site.containerd.ctr(remove, namespace);
  }
}
