/** The thread beside the one that encrypts: takes layers from the ring and answers with their digests. */
import { parentPort, workerData } from 'node:worker_threads';
import { toLatchkeyError } from '#src/base/errors.ts';
import type { HashAnswer } from './hash-thread.ts';
import { type LayerDigestRequest, LayerDigests } from './layer-digests.ts';
import { LayerRing, type LayerRingMemory } from './layer-ring.ts';

const ring = new LayerRing(workerData as LayerRingMemory);

parentPort?.on('message', (request: LayerDigestRequest) => {
  void answer(request).then((message) => parentPort?.postMessage(message));
});

async function answer(request: LayerDigestRequest): Promise<HashAnswer> {
  const digests = new LayerDigests(request);
  try {
    for (let slot = ring.next(); slot !== undefined; slot = ring.next()) {
      await digests.update(slot.plaintext, slot.ciphertext);
      ring.release();
    }
    return { result: await digests.finish() };
  } catch (error) {
    const { code, message, hint } = toLatchkeyError(error);
    ring.fail();
    return { error: { code, message, hint } };
  } finally {
    digests.close();
  }
}
