/** The thread beside the one that encrypts: takes ciphertext from the ring and answers with its digests. */
import { parentPort, workerData } from 'node:worker_threads';
import { CiphertextHasher } from './ciphertext-hasher.ts';
import type { HashRequest } from './hash-thread.ts';
import { LayerRing, type LayerRingMemory } from './layer-ring.ts';

const ring = new LayerRing(workerData as LayerRingMemory);

parentPort?.on('message', (request: HashRequest) => {
  const hasher = new CiphertextHasher(request);
  for (let chunk = ring.next(); chunk !== undefined; chunk = ring.next()) {
    hasher.update(chunk);
    ring.release();
  }
  parentPort?.postMessage(hasher.finish());
});
