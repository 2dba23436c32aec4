/**
 * What a customer's node feels: pulling a large layer, and starting a container that is unpacked already, both
 * against the plain image on containerd's own overlayfs snapshotter, in turns on the same machine.
 *
 *   node bench/node.ts [MiB of the large layer]     (as root)
 */
import { randomBytes } from 'node:crypto';
import { pack } from 'tar-stream';
import { buffer } from 'node:stream/consumers';
import { createGzip } from 'node:zlib';
import { digestOf } from '#src/oci/digest.ts';
import { LabContainerd } from '../lab/containerd.ts';
import { CriClient } from '../lab/cri-client.ts';
import type { BuiltLayer } from '../lab/layer-archive.ts';
import { Site } from '../lab/site.ts';
import { releaseImage } from '../lab/release.ts';
import { interleave, reportContest, timeMs } from './statistics.ts';

const PULL_ROUNDS = 5;
const START_ROUNDS = 40;
const PRODUCT = 'bench';

const site = await Site.start();
// On the same kind of filesystem as the gated one's, so that only the gate makes the difference.
const stock = new LabContainerd({ directory: `${site.directory}/s`, sandboxImage: site.reference('pause') });
try {
  await stock.start();
  const stockCri = new CriClient(stock.address);
  await prepare(Number(process.argv[2] ?? 1024));
  const pulls = await interleave(
    PULL_ROUNDS,
    () => pullOnce(site.cri, site.reference('large')),
    () => pullOnce(stockCri, site.reference('large-plain')),
  );
  reportContest('pull of a large layer', pulls, 'plain', 'at most 1.15');
  await site.cri.pullImage(site.reference('small'));
  await stockCri.pullImage(site.reference('small-plain'));
  const gatedSandbox = await site.cri.runPodSandbox('bench');
  const stockSandbox = await stockCri.runPodSandbox('bench');
  const starts = await interleave(
    START_ROUNDS,
    () => startOnce(site.cri, gatedSandbox, site.reference('small')),
    () => startOnce(stockCri, stockSandbox, site.reference('small-plain')),
  );
  reportContest('warm start', starts, 'plain on overlayfs', 'at most 1.05');
  stockCri.close();
} finally {
  await stock.stop();
  await site.stop();
}

async function prepare(mebibytes: number): Promise<void> {
  await site.api.createProduct({ code: PRODUCT, name: 'Benchmark' });
  await site.api.createCustomer({ name: 'bench' });
  const { licenseKey } = await site.api.createLicense({ customer: 'bench', product: PRODUCT });
  const agent = site.agent.connect();
  await agent.activate(licenseKey);
  agent.close();
  for (const [name, size] of [
    ['large', mebibytes],
    ['small', 1],
  ] as const) {
    await site.publish(`${name}-plain`, '1', [site.baseLayer, await randomLayer(size)]);
    await releaseImage(site.api, {
      layoutDirectory: site.layout(`${name}-plain`),
      tag: '1',
      outputDirectory: site.layout(name),
      outputTag: '1',
      productCode: PRODUCT,
      selection: { kind: 'layers', positions: [-1] },
    });
    await site.push(name, '1');
  }
}

/** Incompressible, in files of one mebibyte: gzip and untar cost what they cost, encryption cannot hide. */
async function randomLayer(mebibytes: number): Promise<BuiltLayer> {
  const archive = pack();
  const tar = buffer(archive);
  for (let index = 0; index < mebibytes; index += 1) {
    archive.entry({ name: `data/${index}.bin`, mtime: new Date(0) }, randomBytes(1024 * 1024));
  }
  archive.finalize();
  const bytes = await tar;
  const gzip = createGzip({ level: 1 });
  gzip.end(bytes);
  const compressed = await buffer(gzip);
  return {
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    bytes: compressed,
    digest: digestOf(compressed),
    diffId: digestOf(bytes),
  };
}

async function pullOnce(cri: CriClient, image: string): Promise<number> {
  const elapsed = await timeMs(() => cri.pullImage(image));
  await cri.removeImage(image);
  return elapsed;
}

async function startOnce(cri: CriClient, sandboxId: string, image: string): Promise<number> {
  let containerId = '';
  const elapsed = await timeMs(async () => {
    containerId = await cri.createContainer(sandboxId, `bench-${randomBytes(4).toString('hex')}`, image);
    await cri.startContainer(containerId);
  });
  await cri.stopContainer(containerId);
  await cri.removeContainer(containerId);
  return elapsed;
}
