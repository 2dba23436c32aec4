/**
 * Starting gated containers: warm, against the plain image on containerd's own overlayfs snapshotter; and cold, with every
 * layer to be decrypted and unpacked again, against the plain image's pull and unpack.
 *
 *   node bench/node-starts.ts [MiB of the cold image]     (as root)
 */
import { randomLayer } from './built-layers.ts';
import { NodeSite, pullOnce, startOnce } from './node-site.ts';
import { interleave, reportContest } from './statistics.ts';

const MEBIBYTE = 1024 * 1024;
const WARM_ROUNDS = 60;
const COLD_ROUNDS = 7;

const node = await NodeSite.start();
try {
  const { site, stockCri } = node;
  const agent = site.agent.connect();
  await node.publish('small', [await randomLayer(MEBIBYTE)]);
  await node.publish('cold', [await randomLayer(Number(process.argv[2] ?? 250) * MEBIBYTE)]);
  for (const name of ['small', 'small-plain', 'cold']) await site.cri.pullImage(site.reference(name));
  await stockCri.pullImage(site.reference('small-plain'));
  const sandbox = await site.cri.runPodSandbox('bench');
  const stockSandbox = await stockCri.runPodSandbox('bench');
  const warm = await interleave(
    WARM_ROUNDS,
    () => startOnce(site.cri, sandbox, site.reference('small')),
    () => startOnce(stockCri, stockSandbox, site.reference('small-plain')),
  );
  reportContest('warm start', warm, 'plain on overlayfs', 'at most 1.03');
  const ungated = await interleave(
    WARM_ROUNDS,
    () => startOnce(site.cri, sandbox, site.reference('small-plain')),
    () => startOnce(stockCri, stockSandbox, site.reference('small-plain')),
  );
  reportContest('  of a plain image on our snapshotter', ungated, 'plain on overlayfs', 'none: the limit');
  const cold = await interleave(
    COLD_ROUNDS,
    async () => {
      await agent.dropPlaintext();
      return startOnce(site.cri, sandbox, site.reference('cold'));
    },
    () => pullOnce(stockCri, site.reference('cold-plain')),
  );
  reportContest('cold start', cold, 'pull and unpack of the plain image', 'at most 1.00');
  agent.close();
} finally {
  await node.stop();
}
