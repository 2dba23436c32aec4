/**
 * Pulling encrypted images, against the plain image on containerd's own overlayfs snapshotter and, as the peer, against
 * the same image opened by ctd-decoder, in turns on the same machine.
 *
 *   node bench/node-pulls.ts [MiB of the large layer]     (as root)
 */
import { randomLayer } from './built-layers.ts';
import { NodeSite, pullOnce } from './node-site.ts';
import { interleave, median, reportContest } from './statistics.ts';

const MEBIBYTE = 1024 * 1024;
const LARGE_ROUNDS = 5;
const MANY_ROUNDS = 15;
const MANY_LAYERS = 50;
const SMALL_LAYER_BYTES = 32 * 1024;

const node = await NodeSite.start();
try {
  await node.publish('large', [await randomLayer(Number(process.argv[2] ?? 1024) * MEBIBYTE)]);
  await contest('large', 'pull of a large layer', LARGE_ROUNDS, 'at most 1.08; ctd-decoder 1.42');
  const layers = [];
  for (let index = 0; index < MANY_LAYERS; index += 1) layers.push(await randomLayer(SMALL_LAYER_BYTES));
  await node.publish('many', layers);
  const added = await contest('many', `pull of ${MANY_LAYERS} small layers`, MANY_ROUNDS, 'at most 1.70');
  process.stdout.write(`  added per layer: ${(added / MANY_LAYERS).toFixed(1)} ms (goal under 3 ms)\n`);
} finally {
  await node.stop();
}

/** Reports ours, the peer's, and a plain image on our snapshotter against the plain pull; gives the milliseconds that ours takes more. */
async function contest(name: string, title: string, rounds: number, goal: string): Promise<number> {
  const { site, stockCri, peerCri } = node;
  const plain = (): Promise<number> => pullOnce(stockCri, site.reference(`${name}-plain`));
  const ours = await interleave(rounds, () => pullOnce(site.cri, site.reference(name)), plain);
  reportContest(title, ours, 'plain', goal);
  const ungated = await interleave(rounds, () => pullOnce(site.cri, site.reference(`${name}-plain`)), plain);
  reportContest('  of a plain image on our snapshotter', ungated, 'plain', 'none: the limit');
  const peer = await interleave(rounds, () => pullOnce(peerCri, site.reference(`${name}-peer`)), plain);
  reportContest('  the same with ctd-decoder', peer, 'plain', 'none: the peer');
  return median(ours.ours.map((value, index) => value - (ours.yardstick[index] ?? Number.NaN)));
}
