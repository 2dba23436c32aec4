/** A worker thread: one job at a time, each in one synchronous go. */
import { parentPort } from 'node:worker_threads';
import { LatchkeyError, systemErrorCode, toLatchkeyError } from '#src/base/errors.ts';
import { LayerDecryptor } from '#src/crypto/layer-cipher.ts';
import type { DecryptJob, DecryptResult } from './decrypt-job.ts';
import { decryptStream, readHead } from './layer-stream.ts';

function run(job: DecryptJob): DecryptResult {
  try {
    if (job.kind === 'head') return { kind: 'head', head: readHead(job.input, job.progress) };
    const decryptor = new LayerDecryptor(job.key, { mac: job.mac });
    return { kind: 'decrypted', sizeBytes: decryptStream(job, job.head, decryptor, job.progress) };
  } catch (error) {
    const gone = systemErrorCode(error) === 'EPIPE';
    const known = gone
      ? new LatchkeyError('INTERRUPTED', 'containerd stopped reading')
      : toLatchkeyError(error);
    return { kind: 'failed', code: known.code, message: known.message };
  }
}

parentPort?.on('message', (job: DecryptJob) => {
  parentPort?.postMessage(run(job));
});
